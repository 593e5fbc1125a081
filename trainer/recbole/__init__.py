"""The same models trained by RecBole, to compare with: same data, split, sizes and loss, one thread each, in turns.

``make recbole`` (`python -m trainer.recbole`) makes a venv for RecBole, lets both learn, one while the other waits,
ranks what each has learned on the same validation queries with the same code, and writes
``docs/quality/recbole.json``, from which ``docs/recbole.md`` is drawn.

`ours` and `theirs` are the two programs that learn. `theirs` runs in RecBole's venv, where streamrec is not installed,
so what it imports, `task` and `turns`, needs NumPy and nothing else.
"""
