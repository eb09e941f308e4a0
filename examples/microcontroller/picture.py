"""A picture as a C array, as the network wants it: python picture.py cat.jpg [size] > picture.h"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import reader
from network.preprocessing import Preprocessing


def main():
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 227
    rows = reader.preprocess(sys.argv[1], Preprocessing(crop=size))[..., ::-1].reshape(size, -1)
    print(f'static const unsigned char picture[{rows.size}] = {{ /* {size}x{size}, RGB */')
    for row in rows:
        print(','.join(map(str, row.tolist())) + ',')
    print('};')


if __name__ == '__main__':
    main()
