"""Summary of an exported ensemble, as `glrnn collect` answers it."""

from __future__ import annotations

from glrnn_hpc.collector.collection import ExportedEnsemble, MemberOfEnsemble
from glrnn_hpc.records.provenance import MemberOrigin, Provenance


def ensemble_summary(provenance: Provenance, *, is_one_of_many: bool) -> ExportedEnsemble:
    """Return what an answer says of an ensemble; of several sweeps, members are told with the folders of theirs."""
    origin = provenance.ensemble
    assert origin is not None
    members = [_member(member, is_one_of_many=is_one_of_many) for member in origin.members]
    best_place = [member.folder for member in origin.members].index(origin.best_single.folder)
    return {
        "asked": origin.n_picks,
        "candidates": origin.n_candidates,
        "members": members,
        "best_single": members[best_place],
        "first_step": int(provenance.window_size or 0),
        "mse_standardised": provenance.mse_standardised,
        "errors": {name: error.as_json() for name, error in provenance.errors["test"].items()},
        "interval_level": origin.interval_level,
        "coverage": origin.coverage["test"],
    }


def _member(origin: MemberOrigin, *, is_one_of_many: bool) -> MemberOfEnsemble:
    member: MemberOfEnsemble = {
        "number": origin.trial,
        "state": origin.state,
        "weight": origin.weight,
        "mse_standardised": origin.mse_standardised,
    }
    return {"sweep": str(origin.sweep.folder), **member} if is_one_of_many else member
