"""Models compared as the field's papers do: the same queries, full ranking, figures with intervals.

A data set gives one exam, or one for each period; an exam gives what models may learn from and what they are asked.

Example:
    A trained encoder beside popularity, on what LRURec was measured on::

        data = read_set(set_folder("sasrec-ml-1m"))
        (exam,) = exams(data)
        encoder = fit_on(exam.training)
        popular = PopularityRetriever(np.bincount(exam.training.item_codes + 1).astype(np.float32))
        models = {"popularity": popular, "gru": FullScores(encoder, encoder.item_vectors)}
        evaluation = evaluate(models, exam.queries("test"), report)
        result = summarise([evaluation], item_vectors=category_vectors(data.categories), dataset=data.name)
        result["models"]["gru"]["figures"]["ndcg@10"]  # {"mean": …, "low": …, "high": …}
        write_report(result, Path("report"))  # report.md, result.json and plots

    Over periods, the mean of all of them::

        summarise([evaluate(fit_models(exam), exam.queries(), report) for exam in exams(data)])

    Models that learn every event, asked before each: ``evaluate_live(models, exam, report)``. With the windows that
    workers keep in place of the paper's: ``exams(data, WindowRule())``.
"""

from trainer.evaluation.live import evaluate_live
from trainer.evaluation.metrics import category_vectors
from trainer.evaluation.protocols import Exam, global_time, leave_one_out, periods, sessions
from trainer.evaluation.queries import Crop, Queries
from trainer.evaluation.report import write_report
from trainer.evaluation.run import Evaluation, FullScores, evaluate
from trainer.evaluation.sets import EvaluationSet, exams, read_set, set_folder
from trainer.evaluation.summary import summarise

__all__ = [
    "Crop",
    "Evaluation",
    "EvaluationSet",
    "Exam",
    "FullScores",
    "Queries",
    "category_vectors",
    "evaluate",
    "evaluate_live",
    "exams",
    "global_time",
    "leave_one_out",
    "periods",
    "read_set",
    "sessions",
    "set_folder",
    "summarise",
    "write_report",
]
