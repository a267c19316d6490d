"""What comes from the Hugging Face hub: found out in seconds, continued when cut, checked."""
