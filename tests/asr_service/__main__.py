"""`python -m asr_service` with PYTHONPATH=tests, or `python tests/asr_service` from anywhere."""

import sys
from pathlib import Path

if not __package__:  # started by path: the package's parent is not importable yet
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from asr_service.supervisor import main

sys.exit(main())
