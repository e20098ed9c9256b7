"""``python -m guardproxy`` is the same program as ``guardproxy``."""

import sys

from guardproxy.cli.main import main

sys.exit(main())
