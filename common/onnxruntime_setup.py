"""Import this before ONNX Runtime: from 1.29 on it reports to its maker unless it is told not to.

Pictures, and facts about them and this machine, stay here. Whoever sets the variable otherwise is
left alone.
"""

import os

os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
