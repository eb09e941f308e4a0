"""From the reader's crops to what the network takes, on the device that computes."""

from contextlib import closing

import paddle

import reader


def feed(batches, preprocessing, device):
    """Yield (images float32 [B, 3, h, w], labels) of each of `batches`, (uint8 [B, h, w, 3] BGR,
    int64 [B]); close it, or read it to its end, as those of reader.py.

    A GPU gets the bytes, a quarter of the floats, from memory that it reads by itself, and makes
    the floats; the next batch is on its way while one computes.
    """
    with closing(batches):
        if device.is_gpu:
            yield from _one_ahead(_on_gpu(*batch, preprocessing) for batch in batches)
        else:
            for crops, labels in batches:
                yield reader.network_input(crops, preprocessing), labels


def _on_gpu(crops, labels, preprocessing):
    pinned = [paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()) for array in (crops, labels)]
    crops, labels = (tensor.cuda(blocking=False) for tensor in pinned)
    return device_input(crops, preprocessing), labels


def device_input(crops, preprocessing):
    """reader.network_input, bit for bit, of a uint8 Tensor [B, h, w, 3] where it is."""
    images = crops.transpose([0, 3, 1, 2]).astype('float32')
    if preprocessing.channel_order == 'RGB':
        images = images.flip(axis=1)
    mean = paddle.to_tensor(preprocessing.mean, 'float32').reshape([3, 1, 1])
    images = images - mean
    return images * preprocessing.scale if preprocessing.scale != 1 else images


def _one_ahead(items):
    """The items, each made before the one before it is used."""
    waiting = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting
