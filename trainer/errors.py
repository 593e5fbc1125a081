"""Operational errors of the trainer; each docstring ends with what the operator should do."""

from __future__ import annotations


class TrainerError(Exception):
    """Base of every error this package raises on purpose."""


class DatasetError(TrainerError):
    """A folder holds no data set that streamrec knows, a file of it cannot be read, or the fetch failed.

    Operator: the message names the file or lists the layouts that were looked for; correct the folder.
    """


class ReplayError(TrainerError):
    """A topic is missing, or the brokers cannot be reached or stopped answering while it was read.

    Operator: the message names the topic and the brokers; start them, or make the topic with `streamrec topics create`.
    """


class ArchiveError(TrainerError):
    """The archive of interactions is damaged, of another topic, in use, or cannot be written.

    Operator: the message names the folder and the way out; what was committed to the archive is never changed.
    """


class NothingToTrainError(TrainerError):
    """There are too few events to train on.

    Operator: publish more interactions to the topic that the message names, or lower `trainer.min_events`.
    """


class TrainingError(TrainerError):
    """Training ended in numbers that are none; nothing was published.

    Operator: lower `trainer.learning_rate`.
    """


class AnnouncementError(TrainerError):
    """The bundle is written, but its announcement on `model-updates` was not acknowledged.

    Operator: the message names the brokers and the bundle; when they are back, announce it with `streamrec models
    promote`. Workers keep the model that they have.
    """


class NoModelError(TrainerError):
    """No model is announced under the name that was asked for.

    Operator: train one with `streamrec train`, or correct `model.name`.
    """


class ContenderError(TrainerError):
    """A model that was to be compared is unknown, or is set by a key or a value that it does not have.

    Operator: the message names the file, the table and the key, and what there is.
    """


class RegistryError(TrainerError):
    """A model that was named is not among the bundles, or the folder of bundles is missing or in use.

    Operator: `streamrec models list` prints what there is; correct the version or the folder.
    """


class RecBoleError(TrainerError):
    """RecBole cannot be installed or started, one side of the comparison failed, or the two do not learn the same.

    Operator: the message says which, and what to do; nothing of streamrec itself depends on RecBole.
    """
