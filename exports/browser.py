"""What a page computes, asked of the browser or of Node, where one is installed."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
QUIET = (
    '--headless',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)
SECONDS = 120  # until a browser is given up

# Appended to a page, or to its engine in Node: what it computes of a picture, as JSON.
ASK = """
async function ask(about, names, model, width, height, pixels) {
  const data = Uint8ClampedArray.from(atob(pixels), (letter) => letter.charCodeAt(0));
  const opened = await openModel(about, names, model);
  const { answer } = look(opened, about.preprocessing, { width, height, data });
  return JSON.stringify(Array.from(answer.logits));
}
"""
