"""The features by which load is followed and places are divided between gateways, for tests/mutations/run.py."""

from features import GATEWAY, Feature

SCALING, SHARING = "operator/shoal_operator/scaling.py", GATEWAY + "sharing.py"
MERGING, AGAIN = "operator/shoal_operator/merging.py", "tests/operator/test_looking_again.py"
STORIES, CLAIMS = "tests/operator/test_scaling.py", "tests/serving/test_dispatching_claims.py"
DISPATCHING = "tests/serving/test_gateway_dispatching.py"
DIVIDED, MERGED = "tests/serving/test_sharing.py", "tests/operator/test_merging.py"
EACH = DIVIDED + "::test_every_gateway_has_the_places_that_its_callers_would_have_had_turns"
NOBODY_WITHOUT = DIVIDED + "::test_whatever_is_claimed_all_places_are_given_and_nobody_with_one_left_for_him_has_none"

LOAD_FEATURES = [
    Feature(
        "a gateway leaves others their part of the places",
        GATEWAY + "dispatching.py",
        "        return sharing.most(places, claims) - held",
        "        return _ALL",
        CLAIMS + "::test_while_callers_wait_at_another_gateway_it_gets_its_part_of_the_places_as_they_become_free",
    ),
    Feature(
        "a replica that is out has no places to divide",
        GATEWAY + "dispatching.py",
        "            if not endpoint.health.is_out:\n                places += self.limit",
        "            if True:\n                places += self.limit",
        CLAIMS + "::test_of_a_replica_that_cannot_be_reached_nothing_is_claimed_and_nothing_counted",
    ),
    Feature(
        "one place at least is a gateway's own",
        SHARING,
        "    return max(places - others, 1)",
        "    return places - others",
        DIVIDED + "::test_a_gateway_at_which_nobody_waits_leaves_the_others_what_they_want",
    ),
    Feature(
        "a class has its weight when places are divided",
        SHARING,
        "                found[at] += weight * count / total",
        "                found[at] += count / total",
        EACH,
    ),
    Feature(
        "places are divided by callers, not by gateways",
        SHARING,
        "        counts = [each.get(priority, 0) for each in callers]",
        "        counts = [int(priority in each) for each in callers]",
        EACH,
    ),
    Feature(
        "a place that a gateway does not need is another's",
        SHARING,
        "        content = [at for at in hungry if wanted[at] <= exact[at]]",
        "        content = []",
        EACH,
    ),
    Feature(
        "no place is lost by rounding",
        SHARING,
        "        given[at] += 1",
        "        given[at] += 0",
        EACH,
    ),
    Feature(
        "no gateway with callers is without a place",
        SHARING,
        "        if not given[at] and given[richest] > 1:",
        "        if False:",
        NOBODY_WITHOUT,
    ),
    Feature(
        "a gateway that fell silent claims no place",
        "operator/shoal_operator/merging.py",
        "            if told.is_heard(now):\n                for model, load in told.models.items():\n"
        "                    if load.callers:",
        "            if True:\n                for model, load in told.models.items():\n"
        "                    if load.callers:",
        MERGED + "::test_who_is_silent_claims_no_place_and_neither_does_a_gateway_from_before_there_were_claims",
    ),
    Feature(
        "a blink buys no replica",
        SCALING,
        "    rise_seconds: float = 2.0",
        "    rise_seconds: float = 0.0",
        STORIES + "::test_a_blink_buys_nothing",
    ),
    Feature(
        "little over the target must last",
        SCALING,
        "    return tuning.rise_seconds if is_urgent else tuning.calm_seconds",
        "    return tuning.rise_seconds",
        STORIES + "::test_a_load_over_the_target_is_believed_the_sooner_the_worse_it_is",
    ),
    Feature(
        "from zero the newest load counts",
        SCALING,
        "    if not ready:\n        return 0.0\n",
        "",
        STORIES + "::test_from_zero_the_first_held_request_counts_at_once_and_so_does_the_crowd_behind_it",
    ),
    Feature(
        "a queue is work once it is known how long a request runs",
        SCALING,
        "    if memory.service_seconds is None:\n        return counted\n",
        "    return counted\n",
        STORIES + "::test_a_queue_is_work_once_it_is_known_how_long_a_request_runs",
    ),
    Feature(
        "who has waited for a whole start waits no two minutes more",
        SCALING,
        "    clear = tuning.clear_seconds if ready else tuning.wake_seconds",
        "    clear = tuning.clear_seconds",
        STORIES + "::test_a_queue_is_work_once_it_is_known_how_long_a_request_runs",
    ),
    Feature(
        "what arrives will run",
        SCALING,
        "max(running, flow) + waiting",
        "running + waiting",
        STORIES + "::test_what_arrives_will_run",
    ),
    Feature(
        "the delay before going down is never nothing",
        SCALING,
        "    return max(scaling.scale_down_delay_seconds, tuning.settle_seconds)",
        "    return scaling.scale_down_delay_seconds",
        STORIES + "::test_without_a_delay_what_was_needed_a_moment_ago_stays_all_the_same",
    ),
    Feature(
        "a spike that the replicas carry keeps them",
        SCALING,
        "    wanted = max(_clamp(max(lately, stable), scaling), floor)",
        "    wanted = max(_clamp(stable, scaling), floor)",
        STORIES + "::test_a_spike_that_the_replicas_carry_keeps_them_for_the_delay",
    ),
    Feature(
        "the average of half a minute must need fewer",
        SCALING,
        "    wanted = max(_clamp(max(lately, stable), scaling), floor)",
        "    wanted = max(_clamp(lately, scaling), floor)",
        STORIES + "::test_without_a_delay_a_crowd_that_is_over_keeps_what_the_average_of_half_a_minute_needs",
    ),
    Feature(
        "after a moment of silence the delay goes on",
        SCALING,
        "    if gap.total_seconds() > tuning.lapse_seconds:",
        "    if True:",
        STORIES + "::test_after_a_moment_of_silence_the_delay_goes_on_and_after_long_it_begins_anew",
    ),
    Feature(
        "after long silence the delay begins anew",
        SCALING,
        "    if gap.total_seconds() > tuning.lapse_seconds:",
        "    if False:",
        STORIES + "::test_after_a_moment_of_silence_the_delay_goes_on_and_after_long_it_begins_anew",
    ),
    Feature(
        "silence is not part of the delay",
        SCALING,
        "(min(at + gap, now), need)",
        "(at, need)",
        STORIES + "::test_a_gateway_that_is_late_now_and_then_does_not_prolong_the_delay_for_ever",
    ),
    Feature(
        "a silent gateway freezes the way down",
        SCALING,
        "    if load.missing:\n"
        "        return _frozen(current, load, memory, again=_until_it_lasts(scaling, current, load))\n",
        "",
        STORIES + "::test_a_silent_gateway_freezes_the_way_down_and_says_so",
    ),
    Feature(
        "after a restart no replica goes before half a minute is known",
        SCALING,
        "    is_known = loads.covers(load.samples, tuning.stable_seconds, now)",
        "    is_known = True",
        STORIES + "::test_after_a_restart_half_a_minute_must_be_known_also_where_the_delay_is_shorter",
    ),
    Feature(
        "requests too short to be seen count as use",
        SCALING,
        "(memory.busy_at, load.busy_at, load.known_since)",
        "(memory.busy_at, load.known_since)",
        STORIES + "::test_requests_too_short_to_be_seen_running_count_as_use",
    ),
    Feature(
        "a load that may need more is looked at until it has lasted",
        SCALING,
        "    return 1.0 if _clamp(_needed(load.newest.load, scaling.target_load), scaling) > current else None",
        "    return None",
        AGAIN + "::test_a_burst_of_long_requests_is_looked_at_until_it_has_lasted",
    ),
    Feature(
        "the idle time is looked at though the delay is longer",
        SCALING,
        "look_again_after=_sooner(decision.look_again_after, left))",
        "look_again_after=decision.look_again_after)",
        AGAIN + "::test_the_idle_time_ends_where_it_should_though_the_delay_is_longer",
    ),
    Feature(
        "the least work needs a replica",
        SCALING,
        "int(load > 0))",
        "0)",
        AGAIN + "::test_the_least_work_wakes_a_model",
    ),
    Feature(
        "averages that fall without news are looked at",
        SCALING,
        "again=1.0 if max(lasting, floor) < current else None",
        "again=None",
        AGAIN + "::test_without_news_nothing_but_a_look_that_was_asked_for_would_change_the_number",
    ),
    Feature(
        "the load in the status is the last one in the end",
        "operator/shoal_operator/status.py",
        "Told(md.status.load, memory, left) if left",
        "Told(md.status.load, memory) if left",
        "tests/operator/test_following_load.py"
        "::test_the_load_in_the_status_changes_every_ten_seconds_at_most_and_is_the_newest_in_the_end",
    ),
    Feature(
        "what ran unheard is not reckoned with",
        MERGING,
        "(not message.is_whole or told.is_heard(now))",
        "True",
        MERGED + "::test_who_came_is_counted_where_somebody_saw_it",
    ),
    Feature(
        "a gateway that was silent and Ready may have served somebody",
        MERGING,
        "        was_silent = (told.ready_until - told.heard).total_seconds() >= OUT_SECONDS",
        "        was_silent = False",
        MERGED + "::test_one_that_was_silent_and_ready_may_have_served_somebody_until_its_end",
    ),
    Feature(
        "a gateway begun after us may have replaced another",
        MERGING,
        "        booted = min(booted, self._began)\n        if told.heard is None and (",
        "        if booted <= self._began and (",
        MERGED + "::test_a_gateway_begun_after_us_may_have_replaced_one_that_ended_before_we_listened",
    ),
    Feature(
        "requests that are over before the next message are told",
        GATEWAY + "load_telling.py",
        "        return load.arrived != told.arrived",
        "        return load.idle_seconds < told.idle_seconds",
        "tests/serving/test_load_telling.py::test_a_model_that_is_asked_shortly_again_and_again_is_never_thought_idle",
    ),
    Feature(
        "who waits for another replica holds up nobody who comes",
        GATEWAY + "dispatching.py",
        "(not self.room or self._nobody_is_before()) and self._free()",
        "not self.room and self._free()",
        DISPATCHING + "::test_who_waits_for_another_endpoint_holds_up_nobody_who_comes",
    ),
    Feature(
        "who came back goes before who comes",
        GATEWAY + "dispatching.py",
        "        self.wake()\n        return True\n",
        "        return True\n",
        DISPATCHING + "::test_nobody_overtakes_who_comes_back_though_the_alarm_is_late",
    ),
    Feature(
        "a replica that is reached again is there for all who wait",
        GATEWAY + "upstream.py",
        "            self.health.reached()\n            self.changed()\n",
        "            self.health.reached()\n",
        DISPATCHING
        + "::test_when_a_replica_that_was_out_is_reached_everybody_may_go_there_not_only_the_one_that_tried_it",
    ),
    Feature(
        "a trial whose client left is followed by another",
        GATEWAY + "upstream.py",
        "            return\n        self.changed()\n",
        "            return\n",
        DISPATCHING + "::test_who_leaves_during_its_trial_of_a_replica_leaves_nobody_waiting_for_ever",
    ),
    Feature(
        "what runs on a replica that comes back into the table counts",
        GATEWAY + "dispatching.py",
        "(*self._leaving, *self.endpoints)}",
        "self.endpoints}",
        DISPATCHING + "::test_a_replica_that_leaves_the_table_and_comes_again_still_has_what_runs_on_it",
    ),
]
