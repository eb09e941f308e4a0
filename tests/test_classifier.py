"""infer.py from Python: its Classifier takes every kind of picture and answers as the command."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from conftest import CAT, COFFEE, ROOT
from inferring import run
from PIL import Image

import infer
from pictures.decoding import PictureError


def test_classifier_takes_every_kind_of_picture(three_classes, tmp_path):
    classify = infer.Classifier(three_classes)
    output = tmp_path / 'out.json'
    assert run('--model', three_classes, CAT, '--output', output) == 0
    top = json.loads(output.read_text(encoding='utf-8'))['pictures'][0]['top']
    expected = classify(CAT)
    assert [name for name, _ in expected] == [guess['name'] for guess in top]
    close = pytest.approx([guess['probability'] for guess in top], abs=1e-6)  # NumPy's
    assert [probability for _, probability in expected] == close
    with Image.open(CAT) as opened:
        kinds = [CAT, str(CAT), CAT.read_bytes(), cv2.imread(str(CAT)), opened]
        assert [classify(kind) for kind in kinds] == [expected] * 5
        assert classify(kinds) == [expected] * 5
    with open(CAT, 'rb') as file:
        for kind in (file, io.BytesIO(CAT.read_bytes()), file):  # once more from its start
            assert classify(kind) == expected
    assert classify([]) == []
    assert classify([COFFEE])[0] == classify(COFFEE) != expected


def test_classifier_decodes_big_files_and_bytes_at_a_reduced_scale(three_classes, tmp_path):
    path = tmp_path / 'big.jpg'
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(COFFEE)), (1300, 1200)))
    full, fast = (infer.Classifier(three_classes, fast_decode=on) for on in (False, True))
    assert full(path) != fast(path) == fast(path.read_bytes())
    assert full(CAT) == fast(CAT)


def test_classifier_names_what_is_no_picture(three_classes, tmp_path):
    classify = infer.Classifier(three_classes)
    closed = io.BytesIO()
    closed.close()
    for wrong, words in [
        (tmp_path / 'missing.jpg', 'missing.jpg: No such file'),
        (b'no picture', 'cannot decode'),
        (np.zeros((300, 300, 2), np.uint8), r'uint8 \[300, 300, 2\]; it must be uint8'),
        (np.zeros((300, 300, 3)), 'float64'),
        (np.zeros((0, 300), np.uint8), 'it must be uint8'),
        (7, 'cannot be made of int'),
        (io.StringIO('text'), "gives str; open it as 'rb'"),
        (closed, 'the open file cannot be read'),
        (Image.open(io.BytesIO(CAT.read_bytes()[:9000])), 'cannot decode'),
    ]:
        with pytest.raises(PictureError, match=words):
            classify(wrong)


def test_grey_arrays_and_alpha_are_what_files_of_them_are(three_classes):
    classify = infer.Classifier(three_classes)
    grey = cv2.imread(str(CAT), cv2.IMREAD_GRAYSCALE)
    clear = np.dstack([cv2.imread(str(CAT)), grey])
    for array in (grey, clear):
        expected = classify(cv2.imencode('.png', array)[1].tobytes())
        assert [name for name, _ in classify(array)] == [name for name, _ in expected]
        assert dict(classify(array)) == pytest.approx(dict(expected), abs=0.01)
    assert classify(grey[..., None]) == classify(grey) == classify(Image.fromarray(grey))


@pytest.mark.parametrize('fast_decode', [False, True])
def test_a_pickled_classifier_answers_the_same(three_classes, fast_decode):
    classify = infer.Classifier(three_classes, 'cpu', fast_decode=fast_decode)
    for other in (pickle.loads(pickle.dumps(classify)), copy.deepcopy(classify)):
        assert other(COFFEE) == classify(COFFEE) and other.names == classify.names


FORKED = """
import os, sys, threading, time
from infer import Classifier

classify = Classifier(sys.argv[1], 'cpu')
busy = threading.Event()
how, picture = sys.argv[2:]
expected = None if how == 'unused' else classify(picture)

def work():
    while not busy.is_set():
        classify([picture] * 4)

if how == 'computing':
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.1)
child = os.fork()
if child == 0:
    if how == 'silent':
        sys.exit(7)
    assert classify(picture) == (expected or classify(picture))
    grandchild = os.fork()
    if grandchild:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert classify(picture)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
busy.set()
assert classify(picture)
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='nothing is forked there')
@pytest.mark.parametrize('how', ['used', 'unused', 'computing', 'silent'])
def test_forked_children_answer_and_end(three_classes, how):
    """As gunicorn --preload and multiprocessing.Pool have it."""
    command = [sys.executable, '-W', 'ignore', '-c', FORKED, str(three_classes), how, str(CAT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ('7\n', '', 0)


def test_classifier_serves_several_threads(three_classes):
    classify = infer.Classifier(three_classes)
    expected = [classify(CAT), classify(COFFEE)]
    found = [None] * 8

    def ask(n):
        found[n] = [classify((CAT, COFFEE)[(n + k) % 2]) for k in range(6)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[expected[(n + k) % 2] for k in range(6)] for n in range(8)]


def test_importing_infer_leaves_the_programs_signals_alone(tmp_path):
    code = 'import signal, infer; print(signal.getsignal(signal.SIGINT).__name__)'
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ('default_int_handler\n', '')
