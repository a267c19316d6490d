"""Downloads from the Hugging Face hub through `huggingface_hub`: bounded in time, one-line errors.

Nothing here chooses files: what a stage downloads is decided in its own package.
"""
