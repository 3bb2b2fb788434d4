"""`python -m hetc.cli` is `hetc`."""

import sys

from hetc.cli.app import main

sys.exit(main())
