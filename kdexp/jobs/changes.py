"""What a run on disk was made with that is no longer so: its settings, the defaults, the user's code, its teacher's
weights."""

from kdexp.config import naming
from kdexp.config.schema import CIRCUMSTANCES, flatten, without_places
from kdexp.errors import UsageError

OF_TABLES = ("distill.label", "distill.note", "distill.control")  # words and marks, no numbers


def settings_changed(job) -> list[str]:
    """Which settings of the record in a job's folder differ from the job's: "distill.temperature was 2, is 4". Values
    that were defaults then count too, as the default may be another one now. Raises UsageError if they differ and
    config.yaml cannot be read."""
    recorded, known = job.record.config, {**job.record.status, **job.record.result}
    theirs = known.get("fingerprint", job.fingerprint)
    if not recorded and theirs != job.fingerprint:
        raise UsageError(
            f"{job.record.folder} holds a run with another fingerprint, and its config.yaml cannot be read. "
            "Train again with rerun=all, or keep both with tag=NAME"
        )
    if not recorded:
        return []
    then, now = _recorded(recorded), _recorded(job.config)
    moved = {key for key in then.keys() & now.keys() if then[key] != now[key]}
    if theirs != job.fingerprint:
        try:
            asked_then, asked = naming.settings(recorded), naming.settings(job.config)
        except Exception:  # whatever a foreign config.yaml raises
            asked_then, asked = {}, {}
        moved |= {key for key in asked_then.keys() | asked.keys() if asked_then.get(key) != asked.get(key)}
        then, now = asked_then | then, asked | now
        if not moved:
            return [f"another version of {job.method}"]
    return [f"{key} was {then.get(key, 'the default')}, is {now.get(key, 'the default')}" for key in sorted(moved)]


def _recorded(config: dict) -> dict:
    """Every value of a configuration that affects the numbers, by command-line key; its teacher has a record of its
    own."""
    skipped = (*CIRCUMSTANCES, "seed", "tag")
    return {
        key: value
        for key, value in without_places(flatten(config)).items()
        if key.partition(".")[0] not in skipped
        and key not in (*OF_TABLES, "teacher_checkpoint", "distill.name")
        and not key.startswith("model.teacher")
    }


def code_changed(job, then: dict) -> list[str]:
    """Which of the user's code differs: "the code of mylab.trust.Trust". then: status.json, result.json, or a
    checkpoint. Nothing is known of records without digests."""
    theirs = then.get("sources")
    if theirs is None:
        return []
    now = job.sources
    nodes = {**job.config, "model.student": job.config["model"]["student"]}
    return [f"the code of {nodes[key]['_target_']}" for key in now if theirs.get(key) not in (None, now[key])]


def weights_changed(job) -> bool:
    """Whether the weights that taught this record are not those that its teachers have now, or that they will have once
    they are trained again under rerun=changed. False if one of the two is not known."""
    taught = {**job.record.status, **job.record.result}.get("teachers")
    if not taught or not job.teachers:
        return False
    now = [teacher.record.result.get("student_sha256") for teacher in job.teachers]
    known = None not in now
    return any(teacher.outdated for teacher in job.teachers) or known and [origin["sha256"] for origin in taught] != now


def not_resumable(job, checkpoint: dict) -> str:
    """Why a run cannot go on from its checkpoint: it began with other code or under another teacher; empty if it can."""
    why = [f"{what} has changed" for what in code_changed(job, checkpoint)]
    then, now = ([one["sha256"][:8] for one in some] for some in (checkpoint.get("teachers", []), job.origins))
    if then and then != now:  # checkpoints of earlier versions don't say
        why.append(f"the weights of its teacher are now {', '.join(now)}, not {', '.join(then)}")
    return f"cannot go on where it stopped: {'; '.join(why)}. Train it from the start with rerun=changed" if why else ""
