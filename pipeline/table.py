"""Print the scores beside the reference's rows."""

from zetalib.errors import run_stage
from zetalib.reports import score_table

if __name__ == "__main__":
    run_stage(lambda: print(score_table.render(score_table.read("metrics"))))
