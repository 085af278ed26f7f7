"""Builds the training text from Debian packages whose text is in the public domain.

    apt-get install bible-kjv            King James Bible, 1611 (about 4.2 MB without verse numbers)
    apt-get download golang-1.19-src     Newton's Opticks, 4th edition, 1730 (Project Gutenberg's text, in the test data of Go)
    apt-get install dict-devil           The Devil's Dictionary, Ambrose Bierce, 1911

`python3 corpus.py OUT` writes OUT/train.bin and OUT/heldout.bin, bytes as they are. Every 20th block of 8 KiB of each source is held
out, so that the held-out text has the same mixture. What a package lacks here is an error: the corpus is always the same.
"""

import gzip
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK_BYTES = 8192
HELD_OUT_EVERY = 20


def king_james() -> str:
    text = subprocess.run(['bible', '-f', 'gen1:1-rev22:21'], check=True, capture_output=True, text=True).stdout
    verses = (re.sub(r'^\S+:\d+ ', '', line) for line in text.splitlines())
    return '\n'.join(verse.strip() for verse in verses if verse.strip()) + '\n'


def opticks() -> str:
    name = 'usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt'
    installed = Path('/') / name
    if installed.exists():
        data = installed.read_bytes()
    else:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(['apt-get', 'download', '-qq', 'golang-1.19-src'], check=True, capture_output=True, cwd=folder)
            package = next(Path(folder).glob('golang-1.19-src*.deb'))
            members = subprocess.run(['dpkg-deb', '--fsys-tarfile', package], check=True, capture_output=True).stdout
            data = subprocess.run(['tar', '-xO', './' + name], input=members, check=True, capture_output=True).stdout
    text = data.decode('utf-8', 'replace')
    body = text[text.index('OPTICKS') :].replace('_', '')  # underscores marked italics
    # Paragraphs on one line each: line ends at a fixed width teach nothing.
    paragraphs = (' '.join(part.split()) for part in re.split(r'\n\s*\n', body))
    return '\n'.join(part for part in paragraphs if part) + '\n'


def devils_dictionary() -> str:
    with gzip.open('/usr/share/dictd/devil.dict.dz') as file:
        text = file.read().decode('utf-8', 'replace')
    paragraphs = (' '.join(part.split()) for part in re.split(r'\n\s*\n', text))
    return '\n'.join(part for part in paragraphs if part) + '\n'


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    train, heldout = bytearray(), bytearray()
    for source in (king_james, opticks, devils_dictionary):
        data = source().encode('utf-8')
        for number, begin in enumerate(range(0, len(data), BLOCK_BYTES)):
            (heldout if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else train).extend(data[begin : begin + BLOCK_BYTES])
        print(f'{source.__name__}: {len(data)} bytes')
    (out / 'train.bin').write_bytes(train)
    (out / 'heldout.bin').write_bytes(heldout)
    print(f'train {len(train)}, held out {len(heldout)} bytes')


if __name__ == '__main__':
    main()
