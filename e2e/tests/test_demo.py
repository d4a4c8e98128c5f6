"""What the README shows is run as it is."""

import demo_offline


def test_messages_wait_for_a_user_though_a_gateway_is_killed(tmp_path, capsys):
    demo_offline.main(tmp_path)
    assert "her queue is empty" in capsys.readouterr().out
