"""`liquidgen server`: MLflow for several people, with passwords and a PostgreSQL database."""
