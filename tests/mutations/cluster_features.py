"""The features of the operator and the commands towards Kubernetes and one machine, for tests/mutations/run.py."""

from features import Feature

OPERATOR, TESTS = "operator/shoal_operator/", "tests/operator/"

CLUSTER_FEATURES = [
    Feature(
        "another's stillness counts from the answer",
        OPERATOR + "leading.py",
        "lease_holding.sighting(known, self._seen, self.heard)",
        "lease_holding.sighting(known, self._seen, asked)",
        TESTS + "test_lease_holding.py::"
        "test_an_answer_that_was_long_under_way_shows_a_holder_that_may_have_renewed_just_now",
    ),
    Feature(
        "a condition that nobody here knows is left out",
        "crds/shoal_api/status.py",
        'each.get("type") in known]',
        'each.get("type")]',
        TESTS + "test_operating.py::test_what_a_newer_operator_has_told_takes_no_model_away",
    ),
    Feature(
        "a first start that is over has not failed",
        OPERATOR + "local.py",
        "        self._has_worked = True\n",
        "",
        TESTS + "test_shoal_up.py::test_the_first_start_is_over_once_a_model_has_worked",
    ),
    Feature(
        "a replica that cannot be started ends nobody else",
        OPERATOR + "processes.py",
        "        except OSError as error:  # no room",
        "        except ZeroDivisionError as error:  # no room",
        TESTS + "test_shoal_up.py::test_what_serves_goes_on_while_nothing_can_be_written",
    ),
    Feature(
        "a log is followed for longer than a request lasts",
        OPERATOR + "cluster.py",
        'total=None if "follow" in query else READ_SECONDS',
        "total=READ_SECONDS",
        TESTS + "test_cluster_door.py::"
        "test_a_log_is_followed_for_longer_than_any_request_and_its_lines_are_as_long_as_they_are",
    ),
    Feature(
        "everything is listed again though no watch asks for it",
        OPERATOR + "relisting.py",
        "asyncio.timeout(MOST_SECONDS)",
        "asyncio.timeout(None)",
        TESTS + "test_relisting.py::test_a_model_that_went_while_no_watch_told_of_it_is_not_served_for_ever",
    ),
]
