"""A small, real speech-recognition service to test against: FastAPI, RQ on redis-server, neural recognition.

python tests/asr_service --workers 2                 start it (Ctrl-C ends it)
PYTHONPATH=tests python -m asr_service --help        all options
PYTHONPATH=tests python -m asr_service.audio         make clips of speech to send to it
"""
