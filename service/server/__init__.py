"""What is said to gunicorn and uvicorn; knows no model, and parses nothing.

gunicorn's master forks the workers (`arbiter`); each runs uvicorn's server (`server`, `worker`),
whose connections are uvicorn's own with bounds around them (`protocol`, `shared`).
"""
