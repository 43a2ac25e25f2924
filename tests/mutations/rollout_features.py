"""The features by which one revision follows another and gangs take turns, for tests/mutations/run.py."""

from features import Feature

OPERATOR = "operator/shoal_operator/"
AGAIN, GANGS = "tests/operator/test_looking_again.py", "tests/operator/test_ganging.py"
CLUSTER = "tests/operator/test_rollouts_on_a_cluster.py"
REFUSED = "tests/operator/test_operating_refusals.py"

ROLLOUT_FEATURES = [
    Feature(
        "the deadline of a revision is looked at",
        OPERATOR + "planning.py",
        "    times = [observed.changes_at, rollout.has_time_until(desired, observed)]",
        "    times = [observed.changes_at]",
        AGAIN + "::test_a_new_revision_that_waits_for_room_is_looked_at_at_its_deadline",
    ),
    Feature(
        "a revision of which a replica is ready is not given up",
        OPERATOR + "rollout.py",
        "    if not is_tried or works or not",
        "    if not is_tried or not",
        AGAIN + "::test_a_revision_whose_first_replica_became_ready_in_the_moment_of_the_deadline_is_not_given_up",
    ),
    Feature(
        "gangs of one revision have until its deadline together",
        OPERATOR + "rollout.py",
        "    before = [observed.tried_since] if observed.tried_since else []",
        "    before: list[datetime] = []",
        GANGS + "::test_gangs_of_a_new_revision_that_never_find_nodes_have_until_the_deadline_together",
    ),
    Feature(
        "only a gang made after the one that let go ends the pause",
        OPERATOR + "pod_facts.py",
        "        _has_nodes(members) and min(pod_status.created(pod) for pod in members) > since",
        "        _has_nodes(members)",
        GANGS + "::test_a_gang_that_let_go_keeps_to_its_pause_though_another_of_its_model_runs",
    ),
    Feature(
        "a broken revision is not tried again because its model was at zero",
        OPERATOR + "planning.py",
        "desired.asks_for_none)",
        "not desired.replicas)",
        "tests/operator/test_following_load.py"
        "::test_a_revision_that_gave_up_is_not_tried_again_because_nobody_asked_for_a_while",
    ),
    Feature(
        "another edit is looked at beforehand though the one before was refused",
        OPERATOR + "succession.py",
        "        if any(refusal.revision == revision for refusal in self._in_force(md, its_pods, now)):",
        "        if self._in_force(md, its_pods, now):",
        CLUSTER + "::test_another_edit_is_looked_at_too_while_what_was_said_of_the_one_before_is_in_force",
    ),
    Feature(
        "what was refused is looked at again though nothing changed",
        OPERATOR + "reconciling.py",
        "        again = _sooner(again, planning.look_again(desired, observed, now))\n",
        "",
        REFUSED + "::test_a_pod_that_is_refused_again_with_the_same_words_is_looked_at_again_without_any_news",
    ),
    Feature(
        "the half of a gang is nobody whose going would help",
        OPERATOR + "cluster_world.py",
        "sum(kinds.replica(pod) != new.name for pod in self._of(POD, uid))",
        "len(self._of(POD, uid))",
        REFUSED + "::test_a_gang_that_a_quota_lets_in_by_half_is_not_made_and_deleted_over_and_over",
    ),
    Feature(
        "each revision that is refused has its own pause",
        OPERATOR + "planning.py",
        " or target.revision in observed.not_now:",
        ":",
        CLUSTER + "::test_where_pods_of_both_revisions_are_refused_each_has_its_pause",
    ),
    Feature(
        "a replica of another revision does not end a refusal",
        OPERATOR + "refusals.py",
        "        self._known.get(uid, {}).pop(revision, None)",
        "        self._known.pop(uid, None)",
        CLUSTER + "::test_what_was_refused_is_refused_still_when_the_old_revision_is_restored",
    ),
    Feature(
        "a new revision is looked at before a restored replica that still starts goes",
        OPERATOR + "succession.py",
        '        name = naming.object_name(md.metadata.name, revision, "preflight")',
        "        if not any(p['status'].get('phase') == 'Running' for p in its_pods):\n            return\n"
        '        name = naming.object_name(md.metadata.name, revision, "preflight")',
        CLUSTER + "::test_a_replica_that_is_restored_stays_though_it_starts_for_longer_than_a_refusal_lasts",
    ),
    Feature(
        "a quota that no going replica can heal stands in the way",
        OPERATOR + "succession.py",
        "    if not refusal.pods or md",
        "    if refusal.pods is None or md",
        CLUSTER + "::test_what_fits_a_quota_is_restored_where_the_new_revision_does_not_fit",
    ),
    Feature(
        "what starts goes on though no other can be made",
        OPERATOR + "rollout.py",
        "(known.proven or is_on_its_way)",
        "known.proven",
        "tests/operator/test_planning.py::test_what_starts_goes_on_though_no_other_can_be_made",
    ),
    Feature(
        "the revision beside canaries is kept",
        OPERATOR + "upkeep.py",
        " and not kinds.annotation(record, labels.CANARY)",
        "",
        CLUSTER + "::test_the_revision_beside_canaries_is_kept_however_many_of_them_came_and_went",
    ),
    Feature(
        "an earlier canary stays while the next one starts",
        OPERATOR + "planning.py",
        "        if takes_one and not rollout.may_miss_one(desired, observed):",
        "        if False:",
        "tests/operator/test_canary.py::test_what_is_left_of_an_earlier_canary_goes_when_the_next_one_is_there",
    ),
]
