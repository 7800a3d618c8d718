"""What the sync process knows at any moment, and how it tells it.

The session and, through the agent, the dag-processor report events one by one. The board folds them
into a state that can be asked for and waited on, and turns each into the JSON object that attached
terminals and tests read. The types of those objects:

| type                     | fields beside `type`                                                |
|--------------------------|---------------------------------------------------------------------|
| connected, disconnected  | `reason` for the latter; told once for each reason                  |
| behind                   | `count`: how many files differ after a (re)connection               |
| caught-up                | folder and store are equal again                                    |
| held                     | `reason`, `hint`: somebody else syncs                               |
| sent                     | `snapshot`, `paths` (the first few), `count`, `bytes`, `since_save` |
| problem                  | `path`, `reason`                                                    |
| halted, resumed, refused | `reason` or `message`                                               |
| note                     | `message`                                                           |
| parsing                  | `snapshot`, `files`                                                 |
| parsed                   | `snapshot`, `file`, `dags`, `errors`, `seconds`, `since_save`,      |
|                          | `news`: whether its errors differ from those of its last parse      |
| removed                  | `snapshot`, `file`, `dags`                                          |
| settled                  | `snapshot`, `seconds`, `since_save`                                 |

The process itself adds `settings` (service.py) and `restarting`, `restarted`, `restart-failed`
(plugins.py).

Times are in seconds; `since_save` counts from the first sign of the change and is left out when the
snapshot is not one that this session sent.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from windsock.sync import events

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]

PATHS_TOLD = 8
SAVES_REMEMBERED = 64


class Board:
    """The state of one sync process.

    Args:
        publish: Gets every event as a JSON object, in order.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        publish: Callable[[Message], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._saves: OrderedDict[str, float] = OrderedDict()
        self.connected = False
        self.held: tuple[str, str] | None = None
        self._outage = ""
        self._catching_up = False
        self.halted = ""
        self.refused: Message | None = None
        self.behind = 0
        self._heard = False
        self.store: str | None = None
        self.settled: str | None = None
        self.awaited: set[str] = set()
        self.problems: dict[str, str] = {}
        self.outcomes: dict[str, Message] = {}

    # --- taking events in ---------------------------------------------------------------------

    def take(self, event: events.Event) -> None:
        """Fold one event of the session in, and tell it."""
        with self._changed:
            messages = self._missed(event)
            message = self._fold(event)
            self._changed.notify_all()
        for each in messages if message is None else [*messages, message]:
            self._publish(each)

    def _missed(self, event: events.Event) -> list[Message]:
        """What was parsed while nobody heard of it, by what the dag-processor says when it is back.

        The first word of all is no news: whoever asks is told the state.
        """
        match event:
            case events.ProcessorMessage(message={"type": "hello" | "state"} as message):
                heard, self._heard = self._heard, True
                parsed = [
                    {"type": "parsed", "snapshot": message["snapshot"], "file": file, **outcome}
                    for file, outcome in message["files"].items()
                    if heard and outcome != self.outcomes.get(file)
                ]
                return [told for each in parsed if (told := self._fold_processor(each))]
            case _:
                return []

    def _fold(self, event: events.Event) -> Message | None:  # noqa: C901, PLR0911, PLR0912 - one case an event
        match event:
            case events.ProcessorMessage(message=message):
                return self._fold_processor(message)
            case events.Connected(tree=tree, again=again):
                return self._fold_connected(tree, again=again)
            case events.Disconnected(reason=reason):
                self.connected, self.settled = False, None
                told, self._outage = self._outage, reason
                return None if told == reason else {"type": "disconnected", "reason": reason}
            case events.Held(reason=reason, hint=hint):
                self.connected, self.settled, self.held = False, None, (reason, hint)
                return {"type": "held", "reason": reason, "hint": hint}
            case events.Behind(paths=count):
                self.behind = count
                return {"type": "behind", "count": count} if self._catching_up else None
            case events.Sent():
                return self._fold_sent(event)
            case events.CaughtUp(tree=tree):
                self.store, self.refused, self.behind = tree, None, 0
                news, self._catching_up = self._catching_up, False
                return {"type": "caught-up"} if news else None
            case events.LeftOut(path=path, reason=reason):
                self.problems[path] = reason
                return {"type": "problem", "path": path, "reason": reason}
            case events.LetIn(path=path):
                self.problems.pop(path, None)
                return None
            case events.Halted(reason=reason):
                self.halted = reason
                return {"type": "halted", "reason": reason}
            case events.Resumed():
                self.halted = ""
                return {"type": "resumed"}
            case events.Refused(code=code, message=message):
                self.refused = {"type": "refused", "code": code, "message": message}
                return self.refused
            case events.Note(message=message):
                return {"type": "note", "message": message}
            case events.ProcessorConnection(connected=False):
                self.settled = None
                return None
            case _:
                return None

    def _fold_connected(self, tree: str | None, *, again: bool) -> Message | None:
        news = again or bool(self._outage) or self.held is not None
        self.connected, self.store, self.held, self._outage = True, tree, None, ""
        self._catching_up = news
        return {"type": "connected"} if news else None

    def _fold_sent(self, event: events.Sent) -> Message:
        self.store, self.refused, self.behind = event.tree, None, 0
        self._saves[event.tree] = self._clock() - event.seconds
        while len(self._saves) > SAVES_REMEMBERED:
            self._saves.popitem(last=False)
        paths = sorted(event.difference.paths)
        return {
            "type": "sent",
            "snapshot": event.tree,
            "paths": paths[:PATHS_TOLD],
            "count": len(paths),
            "bytes": event.content_bytes,
            "since_save": round(event.seconds, 4),
        }

    def _fold_processor(self, message: Message) -> Message | None:
        told = dict(message)
        match message.get("type"):
            case "hello" | "state":
                self.outcomes = dict(message["files"])
                self.awaited = set(message["awaited"])
                self.settled = None if self.awaited else message["snapshot"]
                return None
            case "parsing":
                self.settled = None
                self.awaited.update(message["files"])
            case "parsed":
                self.awaited.discard(message["file"])
                known = self.outcomes.get(message["file"], {}).get("errors", {})
                told["news"] = known != message["errors"]
                self.outcomes[message["file"]] = {
                    name: message[name] for name in ("dags", "errors", "seconds")
                }
            case "removed":
                self.outcomes.pop(message["file"], None)
            case "settled":
                self.awaited.clear()
                self.settled = message["snapshot"]
            case _:
                return None
        saved = self._saves.get(message.get("snapshot", ""))
        if saved is not None:
            told["since_save"] = round(self._clock() - saved, 4)
        return told

    # --- asking -------------------------------------------------------------------------------

    def wait_settled(self, snapshot: str, *, timeout: float) -> bool:
        """Wait until Airflow has parsed `snapshot` whole, or the store has moved on from it.

        Args:
            snapshot: A tree id.
            timeout: In seconds.

        Returns:
            Whether `snapshot` is what Airflow has parsed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.settled == snapshot or self.store != snapshot, timeout=timeout
            )
            return self.settled == snapshot

    def wait_connected(self, *, timeout: float) -> bool:
        """Wait until the agent answers, or somebody else turns out to sync; whether it answers."""
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self.held is not None, timeout=timeout)
            return self.connected

    def take_over(self) -> str:
        """Forget that somebody else syncs; returns what was known of that."""
        with self._changed:
            held, self.held = self.held, None
            self._outage = held[0] if held else self._outage  # so that a connection is told
            return held[0] if held else ""

    def state(self) -> Message:
        """Everything worth showing in `invoke status`."""
        with self._changed:
            errors = {
                path: trace
                for outcome in self.outcomes.values()
                for path, trace in outcome["errors"].items()
            }
            dags = sorted({dag for outcome in self.outcomes.values() for dag in outcome["dags"]})
            troubles = self._troubles()
            return {
                "healthy": self.connected and all(each["type"] == "behind" for each in troubles),
                "connected": self.connected,
                "held": self.held[0] if self.held else "",
                "halted": self.halted,
                "snapshot": self.store,
                "settled": self.settled == self.store and self.store is not None,
                "awaited": sorted(self.awaited),
                "dags": dags,
                "errors": errors,
                "problems": dict(self.problems),
                "troubles": troubles,
                "summary": self._summary(len(dags), len(errors)),
            }

    def _troubles(self) -> list[Message]:
        """What keeps saves from Airflow now, each as it was told when it began."""
        troubles: list[Message] = []
        if self.held:
            troubles.append({"type": "held", "reason": self.held[0], "hint": self.held[1]})
        elif not self.connected and self._outage:
            troubles.append({"type": "disconnected", "reason": self._outage})
        if self.halted:
            troubles.append({"type": "halted", "reason": self.halted})
        if self.refused:
            troubles.append(self.refused)
        if self.behind:
            troubles.append({"type": "behind", "count": self.behind})
        return troubles

    def _summary(self, dags: int, errors: int) -> str:
        if self.halted:
            return f"sync halted: {self.halted}"
        if self.held:
            return f"sync: {self.held[0]}. {self.held[1]}"
        if not self.connected:
            return "sync: not connected" + (f": {self._outage}" if self._outage else "")
        if self.refused:
            return f"sync: the last save could not be stored: {self.refused['message']}"
        if self.behind:
            return f"sync: behind by {self.behind} {'file' if self.behind == 1 else 'files'}"
        parsed = "parsed" if self.settled == self.store else "being parsed"
        broken = f", {errors} files do not import" if errors else ""
        return f"sync: in step with the folder; {dags} DAGs {parsed}{broken}"
