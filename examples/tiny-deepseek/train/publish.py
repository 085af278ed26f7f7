"""Everything of the repository that follows from training, in one command: `python3 publish.py RUNS DATA [--figures]`.

RUNS has a folder per trained model, named as train.py's --ffn (moe; dense_active and dense_total where they exist), each with state.pt and
log.jsonl; it may still be training. What is not in RUNS stays as it was published. Writes below examples/tiny-deepseek and test/tiny:

    results/training.json      steps, parameters and held-out losses
    results/<name>.jsonl       the log of each run
    results/compute-budget.json, compare.json, the charts, and the tables in the READMEs, with --figures: minutes, on a machine that does nothing else

and, where RUNS has moe,

    model/                     the published checkpoint
    data/heldout.bin           the held-out text
    test/tiny/golden.safetensors
    traces/heldout/

The twins are exported to RUNS/<name>/model: they do not ship, and `npm run tiny:compare -- --twins RUNS` times them.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from export import export

# In the order of their records.
NAMES = ('moe', 'dense_active', 'dense_total')


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument('runs', type=Path)
    arguments.add_argument('data', type=Path)
    arguments.add_argument('--figures', action='store_true')
    args = arguments.parse_args()
    runs, data = args.runs, args.data
    example = Path(__file__).resolve().parent.parent
    results = example / 'results'
    results.mkdir(exist_ok=True)
    trained = [name for name in NAMES if (runs / name / 'state.pt').exists()]
    heldout = example / 'data' / 'heldout.bin'
    if 'moe' in trained:
        heldout.parent.mkdir(exist_ok=True)
        shutil.copyfile(data / 'heldout.bin', heldout)
    elif (data / 'heldout.bin').read_bytes() != heldout.read_bytes():
        raise SystemExit(f"{data / 'heldout.bin'} is not the text that the published losses are of")
    record_file = results / 'training.json'
    records = json.loads(record_file.read_text()) if record_file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in trained:
            run = runs / name
            # One state for all that is made of it: a run that goes on replaces the file.
            state = Path(folder) / f'{name}.pt'
            shutil.copyfile(run / 'state.pt', state)
            records[name] = export(state, example / 'model' if name == 'moe' else run / 'model', data)
            lines = (run / 'log.jsonl').read_text().splitlines()
            kept = [line for line in lines if json.loads(line)['step'] <= records[name]['step']]
            (results / f'{name}.jsonl').write_text('\n'.join(kept) + '\n')
        record_file.write_text(json.dumps({name: records[name] for name in NAMES if name in records}, indent=2) + '\n')
        if 'moe' in trained:
            # Last, since it computes in double precision from then on.
            from golden import write_golden

            write_golden(Path(folder) / 'moe.pt', example.parent.parent / 'test' / 'tiny' / 'golden.safetensors', data)

    def node(script: str, *options: str) -> None:
        subprocess.run(['npx', 'tsx', example / script, *options], cwd=example.parent.parent, check=True)

    if 'moe' in trained:
        node('trace.ts')
    if args.figures:
        node('compute-budget.ts', '--windows', '16', '--write')
        node('compare.ts', '--twins', str(runs.resolve()), '--write')


if __name__ == '__main__':
    torch.manual_seed(1)
    main()
