"""Takes a picture of a page of export.py as a browser shows it, with a photo dropped on it.

python images/show_page.py my.html data/photos/cat.jpg images/page.png
"""

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from exports import browser

WIDTH, HEIGHT = 1080, 640  # pixels
DROP = """(async () => {
  await ready;
  const bytes = Uint8Array.from(atob('%s'), (letter) => letter.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], 'photo.jpg', { type: 'image/jpeg' }));
  document.dispatchEvent(new DragEvent('drop', { dataTransfer: dropped }));
  while (['ready', 'looking'].includes(status[0])) await new Promise((go) => setTimeout(go, 10));
})()"""


def main(page, photo, output):
    content = base64.b64encode(Path(photo).read_bytes()).decode()
    program = browser.find().path
    with browser.Browser(program, Path(page).read_bytes().decode(), '--hide-scrollbars') as shown:
        size = {'width': WIDTH, 'height': HEIGHT, 'deviceScaleFactor': 1, 'mobile': False}
        shown.call('Emulation.setDeviceMetricsOverride', **size)
        shown.evaluate(DROP % content)
        picture = shown.call('Page.captureScreenshot')['data']
    Path(output).write_bytes(base64.b64decode(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
