"""The HTTP server: gunicorn and uvicorn with the limits that we need; knows no model.

gunicorn's master forks the workers (`arbiter`); each runs uvicorn's server (`server`, `worker`),
whose connections are uvicorn's own with bounds around them (`protocol`, `shared`).
"""
