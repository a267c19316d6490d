"""Downloads from the Hugging Face hub through `huggingface_hub`: bounded in time, errors in a line.

Nothing here chooses files: what a stage downloads is decided in its own package.
"""
