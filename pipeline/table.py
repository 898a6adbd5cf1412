"""Print the scores beside the reference's rows."""

from zetalib import table
from zetalib.errors import run_stage

if __name__ == "__main__":
    run_stage(lambda: print(table.render(table.read("metrics"))))
