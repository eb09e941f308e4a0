"""What every part shares: messages, whole files, devices, a quiet and fast Paddle."""

from common.packages import REQUIRED, require

require(REQUIRED)
