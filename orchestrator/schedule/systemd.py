"""systemd's user manager: one service and its timer per project."""

from __future__ import annotations

import os
import pwd

from orchestrator.schedule.entry import Entry
from orchestrator.schedule.kind import FileKind, run, unavailable


class Systemd(FileKind):
    program = "systemctl"
    instead = "use --schedule cron"
    token_place = (
        "add {name}=<the token> to ~/.config/environment.d/orchestrator.conf (mode 600), and log "
        "in again"
    )
    check = "systemctl --user is-active --quiet orchestrator-{name}.timer"
    load = (
        "systemctl --user daemon-reload",
        "systemctl --user enable --now orchestrator-{name}.timer",
    )
    unload = "systemctl --user disable --now orchestrator-{name}.timer"
    forget = "systemctl --user daemon-reload"

    @property
    def folder(self) -> str:
        config = os.environ.get("XDG_CONFIG_HOME", "")
        config = config if os.path.isabs(config) else os.path.expanduser("~/.config")
        return os.path.join(config, "systemd", "user")

    def require(self) -> None:
        super().require()
        is_there, said = run("systemctl", "--user", "show-environment")
        if not is_there:
            raise unavailable(
                f"systemd runs no user services here: {said}",
                "log in with a separate session, or use --schedule cron",
            )

    def texts(self, entry: Entry) -> dict[str, bytes]:
        """Return the service and the timer (systemd.service(5), systemd.timer(5)).

        The timer counts minutes in UTC: in local time systemd leaves out the whole hour that
        autumn repeats (`systemd-analyze calendar --base-time=... minutely` shows it).
        """
        # Quoted as in systemd.syntax(7); specifiers and variables are escaped.
        escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})
        title = f"Description=One tick of orchestrator ({entry.root.replace('%', '%%')})"
        service = (
            f"[Unit]\n{title}\n\n[Service]\nType=oneshot\n"
            "# Runs outlive the tick that started them.\nKillMode=process\n"
            f'ExecStart=/bin/sh "{entry.script_path.translate(escapes)}"\n'
        )
        timer = (
            f"[Unit]\n{title}\n\n[Timer]\nOnCalendar=minutely UTC\nAccuracySec=5s\n"
            "Persistent=false\n\n[Install]\nWantedBy=timers.target\n"
        )
        unit = os.path.join(self.folder, f"orchestrator-{entry.name}")
        return {f"{unit}.service": service.encode(), f"{unit}.timer": timer.encode()}

    def environment(self, name: str, token: str) -> dict[str, str]:
        _, said = run("systemctl", "--user", "show-environment")
        pairs = (line.partition("=") for line in said.splitlines() if "=$'" not in line)
        return {key: value for key, equals, value in pairs if equals}

    def warnings(self) -> list[str]:
        user = pwd.getpwuid(os.getuid()).pw_name
        if os.path.exists(f"/var/lib/systemd/linger/{user}"):
            return []
        return ["systemd stops your timers when you log out, unless: loginctl enable-linger"]
