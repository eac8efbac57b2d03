"""Each reason for which settings are refused, once; and what is not refused."""

import pytest

from kml_envs.damon.checks import Reason, check, harmful_settings, kernel_refusals
from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Destination,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    IntervalsGoal,
    MonitoringAttributes,
    Quota,
    QuotaGoal,
    Scheme,
    Target,
    WatermarkMetric,
    Watermarks,
)
from kml_envs.damon.versions import FEATURES, KernelVersion, has_feature, missing_features
from kml_envs.errors import UserError

LIMITED = Quota(bytes=1 << 20, reset_interval_ms=1000)
FREE = WatermarkMetric.FREE_MEM_RATE


def attributes(**values):
    return Context(monitoring_attrs=MonitoringAttributes(**values))


def scheme(action=Action.PAGEOUT, **values):
    return Context(schemes=(Scheme(action, AccessPattern(max_nr_accesses=0), **{"quotas": LIMITED, **values}),))


def tiering(hot, cold, hot_node=0):
    """Promote what `hot` samples at least find accessed, demote what `cold` at most do."""
    limits = {"quotas": LIMITED}
    return Context(
        schemes=(
            Scheme(Action.MIGRATE_HOT, AccessPattern(min_nr_accesses=hot), target_nid=hot_node, **limits),
            Scheme(Action.MIGRATE_COLD, AccessPattern(max_nr_accesses=cold), target_nid=1, **limits),
        )
    )


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (attributes(min_nr_regions=2), Reason.TOO_FEW_REGIONS),
        (attributes(min_nr_regions=20, max_nr_regions=19), Reason.REGION_LIMITS_CROSSED),
        (attributes(sample_us=100_001), Reason.SAMPLING_ABOVE_AGGREGATION),
        (attributes(intervals_goal=IntervalsGoal(400, 3, 20, 10)), Reason.TUNING_LIMITS_CROSSED),
        (attributes(intervals_goal=IntervalsGoal(400, 3, 6_000, 9_000)), Reason.SAMPLING_OUTSIDE_TUNING),
        (attributes(min_region_bytes=6000), Reason.MIN_REGION_NOT_POWER_OF_TWO),
        (Context(targets=(Target(regions=((0, 20), (10, 30))),)), Reason.INVALID_RANGES),
        (Context(targets=(Target(regions=((20, 20),)),)), Reason.INVALID_RANGES),
        (scheme(quotas=Quota(goals=(QuotaGoal(target_value=0),))), Reason.ZERO_GOAL),
    ],
)
def test_kernel_refuses(context, reason):
    refusals = kernel_refusals(context)
    assert [refusal.reason for refusal in refusals] == [reason]
    with pytest.raises(UserError) as error:
        check(context)
    assert str(error.value) == refusals[0].message
    assert "\n" not in refusals[0].message


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (attributes(sample_us=30_000), Reason.TOO_FEW_SAMPLES),
        (scheme(quotas=Quota()), Reason.PAGEOUT_WITHOUT_QUOTA),
        (
            Context(schemes=(Scheme(Action.PAGEOUT, AccessPattern(min_nr_accesses=1), quotas=LIMITED),)),
            Reason.PAGEOUT_OF_ACCESSED,
        ),
        (scheme(quotas=Quota(bytes=1)), Reason.QUOTA_WITHOUT_WINDOW),
        (scheme(watermarks=Watermarks(FREE, 1, 500, 400, 0)), Reason.WATERMARKS_NEVER_STOP),
        (scheme(watermarks=Watermarks(FREE, 1, 500, 600, 200)), Reason.WATERMARKS_CROSSED),
        (scheme(Action.MIGRATE_COLD, target_nid=2), Reason.UNKNOWN_NODE),
        (scheme(Action.MIGRATE_COLD), Reason.UNKNOWN_NODE),
        (scheme(Action.MIGRATE_HOT, dests=(Destination(0, 1), Destination(7, 1))), Reason.UNKNOWN_NODE),
        (scheme(Action.MIGRATE_COLD, target_nid=1, quotas=Quota()), Reason.MIGRATION_WITHOUT_QUOTA),
        (
            scheme(
                Action.MIGRATE_COLD,
                target_nid=1,
                quotas=Quota(goals=(QuotaGoal(),), reset_interval_ms=1, goal_tuner=GoalTuner.TEMPORAL),
            ),
            Reason.MIGRATION_WITHOUT_QUOTA,
        ),
        (tiering(hot=1, cold=1), Reason.MIGRATION_THRESHOLDS_CROSSED),
        (
            scheme(quotas=Quota(reset_interval_ms=1, goals=(QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, 50, nid=3),))),
            Reason.UNKNOWN_NODE,
        ),
    ],
)
def test_harmful(context, reason):
    assert kernel_refusals(context) == []
    assert [refusal.reason for refusal in harmful_settings(context, nodes=2)] == [reason]


def test_every_reason_is_tested():
    tested = {
        mark.args[1][row][1]
        for test in (test_kernel_refuses, test_harmful)
        for mark in test.pytestmark
        for row in range(len(mark.args[1]))
    }
    assert tested == set(Reason) - {Reason.UNSUPPORTED_FEATURE}


def test_sound_settings_pass():
    context = scheme(watermarks=Watermarks(FREE, 5_000_000, 500, 400, 200))
    assert check(context) is context
    assert harmful_settings(tiering(hot=2, cold=1), nodes=2) == []
    assert harmful_settings(tiering(hot=1, cold=1, hot_node=1), nodes=2) == []  # both ways lead to the same node
    assert harmful_settings(context, nodes=1) == []
    assert harmful_settings(scheme(Action.MIGRATE_COLD, target_nid=1), nodes=2) == []


EVERYTHING = Context(
    monitoring_attrs=MonitoringAttributes(intervals_goal=IntervalsGoal(400, 3, 5_000, 10_000_000)),
    addr_unit=8,
    pause=True,
    schemes=(
        Scheme(
            Action.MIGRATE_HOT,
            apply_interval_us=1,
            filters=tuple(Filter(kind, allow=True) for kind in FilterType),
            dests=(Destination(0, 1),),
            max_nr_snapshots=1,
            quotas=Quota(
                goals=tuple(QuotaGoal(metric) for metric in GoalMetric),
                goal_tuner=GoalTuner.TEMPORAL,
                fail_charge_denom=1,
            ),
        ),
        Scheme(Action.COLLAPSE),
    ),
)


def test_versions_lack_what_came_later():
    missing = {version: missing_features(EVERYTHING, version) for version in KernelVersion}
    assert missing[KernelVersion.LATEST] == []
    assert missing[KernelVersion.V6_1] == [feature for feature in FEATURES if feature != "tried regions"]
    assert missing[KernelVersion.V6_17][0] == "addr_unit"
    assert not has_feature(KernelVersion.V6_1, "tried regions")
    assert {refusal.reason for refusal in kernel_refusals(EVERYTHING, KernelVersion.V6_1)} == {
        Reason.UNSUPPORTED_FEATURE
    }
    assert missing_features(Context(), KernelVersion.V6_1) == []
