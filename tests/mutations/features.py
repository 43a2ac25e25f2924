"""The features of the request contract, each with the edit that takes it out and the test that must notice."""

from dataclasses import dataclass

GATEWAY, REPLICA = "serving/shoal_serving/gateway/", "serving/shoal_serving/replica/"
OUTCOMES, TABLE = "tests/serving/test_gateway_outcomes.py", "tests/serving/test_gateway_fault_table.py"
PROTOCOL, WAITING = "tests/serving/test_gateway_protocol.py", "tests/serving/test_gateway_waiting.py"
STOPPING, THOUSAND = "tests/serving/test_gateway_stopping.py", "tests/serving/test_gateway_mixed_thousand.py"
CONNECTIONS = "tests/serving/test_gateway_upstream_connections.py"
CUT_ANSWERS = "tests/serving/test_gateway_cut_answers.py"
FAIRNESS = "tests/serving/test_gateway_fairness.py"
STALLED = "tests/serving/test_gateway_stalled_clients.py"
TRIALS = "tests/serving/test_gateway_trials.py"
CONTINUATION = "tests/serving/test_gateway_continuation.py"
KEYS, REALTIME = "tests/serving/test_gateway_with_keys.py", "tests/serving/test_gateway_realtime.py"
BESIDE = TABLE + "::test_beside_a_good_replica_a_bad_one_is_not_noticed"


@dataclass(frozen=True)
class Feature:
    """`old` stands in `file` exactly once; with `new` in its place the feature is gone and `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FEATURES = [
    Feature(
        "a refusal that spends no attempt",
        GATEWAY + "retrying.py",
        "_FREE = frozenset({Happening.UNREACHABLE, Happening.BUSY})",
        "_FREE = frozenset({Happening.UNREACHABLE})",
        WAITING + "::test_a_busy_refusal_goes_back_to_its_old_place",
    ),
    Feature(
        "another replica after a failure",
        GATEWAY + "retrying.py",
        "after.deaths < DEATHS_MOST and untried",
        "after.deaths < DEATHS_MOST and False",
        f"{BESIDE}[False-close]",
    ),
    Feature(
        "once more on a fresh connection",
        GATEWAY + "retrying.py",
        "        if not history.doubted:",
        "        if False:",
        CONNECTIONS + "::test_a_kept_connection_that_the_engine_closed_is_replaced_without_a_word",
    ),
    Feature(
        "at most two deaths",
        GATEWAY + "retrying.py",
        "DEATHS_MOST = 2",
        "DEATHS_MOST = 3",
        OUTCOMES + "::test_one_poisonous_request_kills_two_engines_and_never_three",
    ),
    Feature(
        "at most three attempts",
        GATEWAY + "retrying.py",
        "ATTEMPTS_MOST = 3",
        "ATTEMPTS_MOST = 4",
        OUTCOMES + "::test_three_overloaded_engines_are_asked_and_not_a_fourth",
    ),
    Feature(
        "what is the request's own fault is not tried again",
        GATEWAY + "retrying.py",
        "    if happening is Happening.REJECTED:",
        "    if False:",
        OUTCOMES + "::test_a_request_that_is_its_own_fault_is_tried_once",
    ),
    Feature(
        "no second try after a time-out",
        GATEWAY + "retrying.py",
        "    if happening is Happening.NO_FIRST_BYTE:",
        "    if False:",
        OUTCOMES + "::test_no_first_byte_in_time_is_a_504_and_not_tried_again",
    ),
    Feature(
        "a replica that cannot be reached is out",
        GATEWAY + "endpoint_health.py",
        "        self.skip_until = now + self.out_seconds",
        "        self.skip_until = now",
        CONNECTIONS + "::test_a_replica_that_cannot_be_reached_is_out_for_a_second_then_for_two_and_is_tried_by_one",
    ),
    Feature(
        "longer out every time",
        GATEWAY + "endpoint_health.py",
        "self.out_seconds * 2 or OUT_SECONDS",
        "self.out_seconds or OUT_SECONDS",
        CONNECTIONS + "::test_a_replica_that_cannot_be_reached_is_out_for_a_second_then_for_two_and_is_tried_by_one",
    ),
    Feature(
        "one trial at a time",
        GATEWAY + "endpoint_health.py",
        "        if self.out_seconds:\n            self.on_trial = True",
        "        if self.out_seconds:\n            self.on_trial = False",
        CONNECTIONS + "::test_a_replica_that_cannot_be_reached_is_out_for_a_second_then_for_two_and_is_tried_by_one",
    ),
    Feature(
        "a hello with the right proof",
        GATEWAY + "upstream.py",
        "self.status != 200 or not hmac.compare_digest(given, proof.hello_proof(key, nonce, uid).encode())",
        "self.status != 200",
        OUTCOMES + "::test_with_one_bad_and_one_good_replica_every_request_succeeds",
    ),
    Feature(
        "the first event is looked into",
        GATEWAY + "attempt.py",
        'if whole.startswith(b"data: ") and b"error" not in whole:',
        'if whole.startswith(b"data: "):',
        f"{BESIDE}[True-error-event-code=503]",
    ),
    Feature(
        "an error event after the commit is a cut",
        GATEWAY + "attempt.py",
        'if b"error" in data and sse.may_hold_error(data) and self._forward_until_error(data):',
        "if False:",
        f"{BESIDE}[True-error-event-after=3]",
    ),
    Feature(
        "a stream without its last event is a cut",
        GATEWAY + "attempt.py",
        "        return not endings",
        "        return True",
        CUT_ANSWERS + "::test_a_stream_that_ends_cleanly_without_done_is_a_cut",
    ),
    Feature(
        "whole events only",
        GATEWAY + "sse.py",
        "        self.rest = held[cut:]",
        '        cut = len(held)\n        self.rest = b""',
        PROTOCOL + "::test_an_event_cut_at_any_place_arrives_whole",
    ),
    Feature(
        "a limit for the first byte",
        GATEWAY + "attempt.py",
        "            if now - self.sent_at > first_byte_seconds:",
        "            if False:",
        f"{BESIDE}[True-hang]",
    ),
    Feature(
        "a limit for silence",
        GATEWAY + "attempt.py",
        "            if now - self.last_read_at > idle_seconds:",
        "            if False:",
        f"{BESIDE}[True-silent-after=3]",
    ),
    Feature(
        "a client that leaves ends the engine's work",
        GATEWAY + "exchange.py",
        "            attempt.abandon()\n            if not was_connecting:",
        "            if not was_connecting:",
        OUTCOMES + "::test_a_client_that_leaves_is_an_abort_at_the_engine_long_before_any_timeout",
    ),
    Feature(
        "a slow client pauses its engine",
        GATEWAY + "exchange.py",
        "attempt.stage == COMMITTED and attempt.connection is not None:\n            attempt.connection.pause()",
        "attempt.stage == COMMITTED and attempt.connection is not None:\n            pass",
        PROTOCOL + "::test_a_client_that_does_not_read_pauses_its_engine_and_costs_no_memory",
    ),
    Feature(
        "what a request held is given back",
        GATEWAY + "counted.py",
        "        self._switchboard.budget.give_back(self._size)\n        self._size = 0",
        "        self._size = 0",
        THOUSAND,
    ),
    Feature(
        "an endpoint is released when a stream is cut",
        GATEWAY + "exchange.py",
        "            self._finish(Outcome.UPSTREAM_LOST)\n        dispatcher.release(endpoint)",
        "            self._finish(Outcome.UPSTREAM_LOST)",
        THOUSAND,
    ),
    Feature(
        "a heartbeat before the commit",
        GATEWAY + "exchange.py",
        "self._is_asked_stream and route.queue.heartbeat_after_seconds:",
        "False:",
        WAITING + "::test_a_held_stream_gets_a_heartbeat_where_the_model_asks_for_it",
    ),
    Feature(
        "the room has a bound",
        GATEWAY + "waiting_room.py",
        "    return Admission.INSTEAD if own + 1 < longest else Admission.FULL",
        "    return Admission.WAIT",
        WAITING + "::test_too_many_waiting_are_told_at_once",
    ),
    Feature(
        "who comes back stands at the old place",
        GATEWAY + "dispatching.py",
        "            self.room.come_back(ticket)",
        "            self.room.join(ticket)",
        WAITING + "::test_a_busy_refusal_goes_back_to_its_old_place",
    ),
    Feature(
        "callers take turns",
        GATEWAY + "waiting_room.py",
        "        self._rings[line.priority].move_to_end(line.caller)\n",
        "",
        FAIRNESS + "::test_two_hundred_of_one_key_do_not_make_five_of_another_wait",
    ),
    Feature(
        "a caller who comes back is next again, whoever waits",
        GATEWAY + "dispatching.py",
        "            self.room.come_back(ticket)",
        "            self.room.join(ticket)",
        FAIRNESS + "::test_one_that_a_busy_replica_sends_back_is_next_again_whoever_waits",
    ),
    Feature(
        "priorities have weight",
        GATEWAY + "turns.py",
        '{"high": 16, "normal": 4, "low": 1}',
        '{"high": 1, "normal": 1, "low": 1}',
        FAIRNESS + "::test_a_key_has_its_turns_by_its_priority_and_none_starves",
    ),
    Feature(
        "a changed priority counts for who waits",
        GATEWAY + "waiting_room.py",
        "        elif line.priority != priority:",
        "        elif False:",
        FAIRNESS + "::test_a_changed_priority_counts_from_the_next_request_on",
    ),
    Feature(
        "one caller cannot fill the room",
        GATEWAY + "waiting_room.py",
        "    return Admission.INSTEAD if own + 1 < longest else Admission.FULL",
        "    return Admission.FULL",
        FAIRNESS + "::test_who_fills_the_room_gives_way_to_another_caller",
    ),
    Feature(
        "without keys a user has turns",
        GATEWAY + "checking.py",
        "openai_shapes.user_of(asked.fields) if caller is ANYBODY and",
        '"" if caller is ANYBODY and',
        FAIRNESS + "::test_without_keys_the_user_that_a_request_names_or_else_its_address_has_turns[user]",
    ),
    Feature(
        "without keys and users an address has turns",
        GATEWAY + "keys.py",
        'f"user {user}" if user else address',
        'f"user {user}"',
        FAIRNESS + "::test_without_keys_the_user_that_a_request_names_or_else_its_address_has_turns[address]",
    ),
    Feature(
        "a request whose client gives up is ended",
        GATEWAY + "refusals.py",
        "        if now >= give_up_at:",
        "        if False:",
        FAIRNESS + "::test_a_request_whose_client_gives_up_is_ended_before_and_never_started",
    ),
    Feature(
        "a request whose client gave up is not started",
        GATEWAY + "dispatching.py",
        "is not None:\n            if ticket.give_up_at <= now:",
        "is not None:\n            if False:",
        "tests/serving/test_gateway_dispatching.py::test_a_request_whose_client_will_have_given_up_is_not_started",
    ),
    Feature(
        "a heartbeat renews a client's patience",
        GATEWAY + "patience.py",
        " or (is_stream and 0.0 < heartbeat_after < seconds)",
        "",
        FAIRNESS + "::test_a_patience_that_says_nothing_and_one_that_heartbeats_renew_end_nothing",
    ),
    Feature(
        "a replica's limit is kept to",
        GATEWAY + "balancing.py",
        "        if own >= limit or (load > least and best is not None):",
        "        if load > least and best is not None:",
        WAITING + "::test_what_a_replica_holds_is_bounded_from_the_first_moment",
    ),
    Feature(
        "bytes held are bounded",
        GATEWAY + "waiting_room.py",
        "        if self.held + size > self.most:",
        "        if False:",
        WAITING + "::test_too_many_bytes_over_all_models_are_told_at_once",
    ),
    Feature(
        "a body has a largest size",
        GATEWAY + "intake.py",
        "        if length > most:",
        "        if False:",
        PROTOCOL + "::test_a_body_over_the_limit_is_refused_unread",
    ),
    Feature(
        "no engine sees a client's key",
        GATEWAY + "headers.py",
        '_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"cookie")',
        '_CREDENTIALS = (b"cookie",)',
        KEYS + "::test_a_right_key_is_served_and_never_reaches_an_engine_or_a_log",
    ),
    Feature(
        "a key is for its models",
        GATEWAY + "checking.py",
        "    if not caller.may_use(route, switchboard.table):",
        "    if False:",
        KEYS + "::test_each_api_refuses_in_its_own_shape_and_nothing_reaches_an_engine",
    ),
    Feature(
        "who waits is sent away when the drain is over",
        GATEWAY + "exchange.py",
        "            self._line.dispatcher.leave(self)\n            self._refuse(self._switchboard.refusals"
        ".stopping())",
        "            pass",
        STOPPING + "::test_after_the_drain_waiting_requests_are_sent_away_and_running_ones_still_finish",
    ),
    Feature(
        "the engine gets its own name of the model",
        GATEWAY + "checking.py",
        "        outgoing = _outgoing(body, asked, line.served_name)",
        "        outgoing = _outgoing(body, asked, None)",
        PROTOCOL + "::test_what_an_engine_gets_and_what_it_does_not",
    ),
    Feature(
        "a realtime session names the engine's model",
        GATEWAY + "realtime.py",
        "if named and named != self._route.served_name and named in self._route.names:",
        "if False:",
        REALTIME + "::test_a_session_finds_its_model_and_hears",
    ),
    Feature(
        "a cut session is told",
        GATEWAY + "realtime.py",
        "            self._say_error(lost, websocket.BROKEN)",
        "            pass",
        REALTIME + "::test_a_session_whose_replica_is_lost_is_told_so",
    ),
    Feature(
        "the engine hears that a client left",
        REPLICA + "door.py",
        "                await _to_its_end(self._app(scope, receive, send))",
        "                await self._app(scope, receive, send)",
        "tests/serving/test_replica_door.py::test_when_serve_cancels_a_request_whose_client_left_the_engine_hears_of_it",
    ),
    Feature(
        "a client never sees token ids",
        GATEWAY + "token_ids.py",
        "    pieces = events.split(_NAME)",
        "    pieces = [events]",
        CONTINUATION + "::test_cut_anywhere_it_is_the_unbroken_stream",
    ),
    Feature(
        "what ends inside a character is made again",
        GATEWAY + "transcript.py",
        "        if dropped:",
        "        if False:",
        CONTINUATION + "::test_cut_anywhere_it_is_the_unbroken_stream",
    ),
    Feature(
        "after its finish reason an answer needs no replica",
        GATEWAY + "transcript.py",
        """        return b'"finish_reason":"' in self._tail""",
        "        return False",
        CONTINUATION + "::test_after_the_finish_reason_the_only_replica_may_go",
    ),
    Feature(
        "only a replica of its revision goes on",
        GATEWAY + "exchange.py",
        "            self.revision = revision",
        "            self.revision = None",
        CONTINUATION + "::test_only_a_replica_of_its_revision_continues",
    ),
    Feature(
        "what depends on more than the ids is not continued",
        GATEWAY + "continuation.py",
        "    if not _LOOKED_AT.isdisjoint(body) and (because := _why_fields_forbid(body)):",
        "    if (because := _why_fields_forbid({})):",
        CONTINUATION + "::test_what_could_not_be_exact_ends_in_upstream_lost",
    ),
    Feature(
        "who waits for a replica that was out is served when it is reached",
        GATEWAY + "upstream.py",
        "            self.health.reached()\n            self.changed()\n",
        "            self.health.reached()\n",
        TRIALS + "::test_who_waits_does_not_wait_for_the_end_of_the_request_that_found_the_replica_well",
    ),
    Feature(
        "a trial for nobody sets the time of the next one",
        GATEWAY + "upstream.py",
        "        self.changed()\n        self.close_idle",
        "        self.close_idle",
        TRIALS + "::test_who_waits_is_served_though_the_client_of_the_trial_left[False]",
    ),
    Feature(
        "the next request waits until its client has taken the answer before",
        GATEWAY + "relay.py",
        "elif self._queue and not self._is_client_slow:",
        "elif self._queue:",
        PROTOCOL + "::test_a_pipelined_request_waits_until_its_client_has_taken_the_answer_before",
    ),
    Feature(
        "a client that leaves behind pipelined requests is missed",
        GATEWAY + "relay.py",
        "_QUEUED_MOST = 16",
        "_QUEUED_MOST = 1",
        PROTOCOL + "::test_a_client_that_leaves_behind_pipelined_requests_is_missed",
    ),
    Feature(
        "behind a full line a connection is read again",
        GATEWAY + "relay.py",
        "            self._resume_reading()\n            self._start(incoming)",
        "            self._start(incoming)",
        PROTOCOL + "::test_any_number_of_pipelined_requests_is_answered",
    ),
    Feature(
        "leave to send a body when its turn comes",
        GATEWAY + "relay.py",
        "            if self._owes_leave:",
        "            if False:",
        PROTOCOL + "::test_a_client_that_asks_before_its_turn_is_told_to_go_on_when_it_comes",
    ),
    Feature(
        "a body is not counted as the head behind it",
        GATEWAY + "intake.py",
        "and not self._has_ended_one:",
        "and True:",
        PROTOCOL + "::test_a_large_body_before_a_head_in_two_pieces_is_not_taken_for_headers",
    ),
    Feature(
        "a gateway that stops waits for what still comes in",
        GATEWAY + "relay.py",
        "        return not comes or self.quiet_since_sweeps > STALLED_SWEEPS",
        "        return True",
        STOPPING + "::test_a_request_that_still_comes_in_is_answered",
    ),
    Feature(
        "a gateway that stops does not wait for what stays half",
        GATEWAY + "relay.py",
        "        return not comes or self.quiet_since_sweeps > STALLED_SWEEPS",
        "        return not comes",
        STOPPING + "::test_a_request_that_stays_half_is_not_waited_for",
    ),
    Feature(
        "a gateway that stops waits until answers are taken",
        GATEWAY + "relay.py",
        "if self._queue or self.transport.get_write_buffer_size():",
        "if self._queue:",
        STOPPING + "::test_an_answer_that_its_client_takes_slowly_arrives_whole",
    ),
    Feature(
        "a gateway that stops does not wait for ever until answers are taken",
        GATEWAY + "serving.py",
        "(passed >= settings.drain_seconds or _through(clients))",
        "_through(clients)",
        STOPPING + "::test_an_answer_that_its_client_never_takes_ends_with_the_drain",
    ),
    Feature(
        "the end of a stream stands at the beginning of a line",
        GATEWAY + "attempt.py",
        """block.startswith(mark) or block.find(b"\\n" + mark) >= 0 or block.find(b"\\r" + mark) >= 0:""",
        "block.find(mark) >= 0:",
        CUT_ANSWERS + "::test_what_a_model_says_of_the_end_of_streams_ends_none",
    ),
    Feature(
        "nothing follows a rest that was given up",
        GATEWAY + "attempt.py",
        "if self.stage != COMMITTED or (further and not self._forward(further, connection.complete)):",
        "if further and not self._forward(further, connection.complete):",
        CUT_ANSWERS + "::test_a_rest_that_is_none_is_given_up_once",
    ),
    Feature(
        "a session that said much is read again when its replica is there",
        GATEWAY + "realtime.py",
        "        self.client.resume()\n        for raw in early:",
        "        for raw in early:",
        REALTIME + "::test_a_session_that_says_much_before_its_replica_is_there_is_heard_to_its_end",
    ),
    Feature(
        "a session's end is also its replica's",
        GATEWAY + "realtime.py",
        "        self._through(Happening.ABORTED)\n",
        "",
        REALTIME + "::test_a_session_whose_client_talks_nonsense_ends_at_its_replica_too",
    ),
    Feature(
        "a replica settles from the moment at which its door heard of the drain",
        REPLICA + "program.py",
        "if asked_at >= settled_at and state",
        "if time.monotonic() >= begun + self._config.settle_seconds and state",
        "tests/serving/test_replica_program.py"
        "::test_a_replica_too_busy_to_hear_that_it_shall_go_cuts_nothing_that_it_then_lets_in",
    ),
    Feature(
        "a client that takes nothing is given up",
        GATEWAY + "relay.py",
        "            self.transport.abort()\n        else:",
        "            self.transport.close()\n        else:",
        STALLED + "::test_what_is_held_for_a_client_that_takes_nothing_ends_with_its_connection",
    ),
    Feature(
        "a client that is only slow is not given up",
        GATEWAY + "relay.py",
        "            self._unsent = unsent\n            self.quiet_since_sweeps = 0\n            return",
        "            self._unsent = unsent",
        STALLED + "::test_a_client_that_is_only_slow_is_left_alone",
    ),
]
