"""Print the README's code block that follows the mark <!-- ci: NAME -->."""

import re
import sys
from pathlib import Path

name = sys.argv[1]
readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
found = re.search(rf"<!-- ci: {re.escape(name)} -->\s*```bash\n(.*?)```", readme, re.DOTALL)
if not found:
    sys.exit(f"README.md has no block marked <!-- ci: {name} -->")
print(found.group(1), end="")
