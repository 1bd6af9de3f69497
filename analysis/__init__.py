"""What a run's records say: tables, the Pareto front and its hypervolume, intervals, exports, pictures and pages.

The names below cost only numpy to import. Pictures (``analysis.figures``), pages (``analysis.pages``) and surfaces
(``analysis.surfaces``, ``analysis.gaussian_process``) are imported from their own modules. Nothing here imports torch,
Ray, Optuna or MLflow.
"""

from analysis.export import (
    Verification,
    constraints_text,
    export_front,
    flattered,
    pareto_entries,
    pareto_table,
    train_command,
)
from analysis.frames import measures, read_frame, to_frame, write_frame
from analysis.hypervolume import (
    GrowingFront,
    Reference,
    SearchFront,
    default_margin,
    hypervolume_trace,
    reference_from,
    reference_rule,
)
from analysis.pareto import complete_search_trials, is_nondominated, objective_matrix, pareto_front
from analysis.records import (
    BASELINE_PREFIX,
    REPLICATES_PREFIX,
    Kind,
    State,
    TrialRecord,
    in_order,
    kind_of,
    split_number,
    value_text,
)
from analysis.statistics import (
    Interval,
    McNemar,
    RankCorrelation,
    difference_interval,
    mcnemar,
    rank_correlation,
    student_interval,
    wilson_interval,
)

__all__ = [
    "BASELINE_PREFIX",
    "REPLICATES_PREFIX",
    "GrowingFront",
    "Interval",
    "Kind",
    "McNemar",
    "RankCorrelation",
    "Reference",
    "SearchFront",
    "State",
    "TrialRecord",
    "Verification",
    "complete_search_trials",
    "constraints_text",
    "default_margin",
    "difference_interval",
    "export_front",
    "flattered",
    "hypervolume_trace",
    "in_order",
    "is_nondominated",
    "kind_of",
    "mcnemar",
    "measures",
    "objective_matrix",
    "pareto_entries",
    "pareto_front",
    "pareto_table",
    "rank_correlation",
    "read_frame",
    "reference_from",
    "reference_rule",
    "split_number",
    "student_interval",
    "to_frame",
    "train_command",
    "value_text",
    "wilson_interval",
    "write_frame",
]
