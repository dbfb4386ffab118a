"""What clients of the qBittorrent WebAPI ask of it, in the order in which they ask: written down from what they are seen to send.

Each function is one client's whole dealing with one torrent. `api` is a Session that begins at the root of the daemon's HTTP.
"""

import requests

from harness import SOON, until


class Api:
    """HTTP with a client's cookies, and a short way to say what is expected."""

    def __init__(self, url):
        self.url, self.session = url, requests.Session()

    def _ask(self, method, path, status, **more):
        answer = self.session.request(method, f"{self.url}/api/v2/{path}", timeout=SOON, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.json() if is_json else answer.text

    def get(self, path, status=200, **query):
        return self._ask("GET", path, status, params=query)

    def post(self, path, status=200, **fields):
        return self._ask("POST", path, status, data=fields)

    def upload(self, metainfo, field="torrents", name="a.torrent", status=200, **fields):
        files = {key: (None, str(value)) for key, value in fields.items()}
        files[field] = (name, metainfo, "application/x-bittorrent")
        return self._ask("POST", "torrents/add", status, files=files)

    def login(self, user, password):
        answer = self.post("auth/login", username=user, password=password)
        assert answer == "Ok.", answer
        assert self.session.cookies.get("SID"), "there is no cookie"

    def torrent(self, info_hash):
        found = self.get("torrents/info", hashes=info_hash)
        return found[0] if found else None

    def wait_for(self, info_hash, states):
        return until(lambda: (found := self.torrent(info_hash)) and found["state"] in states and found, SOON, f"{states}")


DONE = ("stalledUP", "uploading", "queuedUP", "stoppedUP")


def sonarr(api, user, password, metainfo, info_hash, dir, category="tv-sonarr"):
    """Sonarr and Radarr: the same code but for the name of the category."""
    # Which version of the API there is, without a login first.
    api.get("app/webapiVersion", status=403)
    api.login(user, password)
    version = tuple(map(int, api.get("app/webapiVersion").split(".")))
    assert (2, 0) <= version <= (2, 11, 4), version
    preferences = api.get("app/preferences")
    for key in ("save_path", "max_ratio_enabled", "max_ratio", "max_seeding_time_enabled", "max_seeding_time", "max_ratio_act", "queueing_enabled", "dht"):
        assert key in preferences, key
    assert category not in api.get("torrents/categories")
    api.post("torrents/createCategory", category=category)
    assert category in api.get("torrents/categories")
    assert api.get("torrents/info", category=category) == []

    assert api.upload(metainfo, category=category, paused="false", stopped="false", contentLayout="Original") == "Ok."
    # It is loaded once its properties are there.
    until(lambda: api.session.get(f"{api.url}/api/v2/torrents/properties", params={"hash": info_hash}).status_code == 200, SOON, "it is loaded")
    api.post("torrents/setShareLimits", hashes=info_hash, ratioLimit="1.5", seedingTimeLimit="60", inactiveSeedingTimeLimit="-2")
    api.post("torrents/setForceStart", hashes=info_hash, value="false")

    def listed():
        return next((one for one in api.get("torrents/info", category=category) if one["hash"].upper() == info_hash.upper()), None)

    found = until(lambda: (one := listed()) and one["state"] in DONE and one, SOON, "it is complete")
    for key in ("hash", "name", "size", "progress", "eta", "state", "save_path", "content_path", "category", "ratio", "ratio_limit", "seeding_time", "seeding_time_limit"):
        assert key in found, key
    assert (found["progress"], found["ratio_limit"], found["seeding_time_limit"]) == (1, 1.5, 60), found
    assert found["content_path"].startswith(str(dir)), found["content_path"]
    files = api.get("torrents/files", hash=info_hash)
    assert [file["name"] for file in files], files
    assert api.get("torrents/properties", hash=info_hash)["save_path"] == found["save_path"]

    # It is imported: another category, that is made when the first try says that it is not there.
    imported = category + "-imported"
    api.post("torrents/setCategory", hashes=info_hash, category=imported, status=409)
    api.post("torrents/createCategory", category=imported)
    api.post("torrents/setCategory", hashes=info_hash, category=imported)
    assert api.torrent(info_hash)["category"] == imported
    api.post("torrents/delete", hashes=info_hash, deleteFiles="false")
    assert api.get("torrents/info", hashes=info_hash) == []


def autobrr(api, user, password, metainfo, info_hash, dir):
    api.login(user, password)
    api.get("app/webapiVersion")
    assert api.get("torrents/info", filter="downloading") == []
    api.get("transfer/info")
    assert api.get("sync/maindata")["server_state"]["free_space_on_disk"] > 0
    if "race" not in api.get("torrents/categories"):
        api.post("torrents/createCategory", category="race", savePath=str(dir))
    fields = {"category": "race", "tags": "a,b c", "paused": "true", "stopped": "true", "savepath": str(dir), "upLimit": "1048576", "autoTMM": "false"}
    assert api.upload(metainfo, **fields) == "Ok."
    assert api.upload(metainfo, **fields) == "Fails.", "it is here already"
    assert api.get("torrents/trackers", hash=info_hash)[0]["url"] == "** [DHT] **"
    api.post("torrents/resume", hashes=info_hash)
    found = api.wait_for(info_hash, DONE)
    assert (found["tags"], found["up_limit"], found["category"]) == ("a, b c", 1048576, "race"), found
    api.post("torrents/reannounce", hashes=info_hash)
    api.post("torrents/delete", hashes=info_hash, deleteFiles="false")


def cross_seed(api, user, password, metainfo, info_hash, dir):
    api.login(user, password)
    assert api.get("app/version").startswith("v")
    api.get("app/preferences")
    assert api.get("torrents/info", hashes=info_hash) == []
    api.post("torrents/createTags", tags="cross-seed")
    fields = {"tags": "cross-seed", "category": "race", "savepath": str(dir), "autoTMM": "false", "contentLayout": "Original", "skip_checking": "true"}
    assert api.upload(metainfo, **fields, stopped="true", paused="true") == "Ok."
    found = api.wait_for(info_hash, ("stoppedUP", "stoppedDL"))
    assert "cross-seed" in found["tags"].split(", ")
    api.post("torrents/recheck", hashes=info_hash)
    api.post("torrents/start", hashes=info_hash)
    assert api.wait_for(info_hash, DONE)["amount_left"] == 0
    exported = api.session.get(f"{api.url}/api/v2/torrents/export", params={"hash": info_hash})
    assert exported.content.startswith(b"d"), exported.content[:20]
    assert {file["progress"] for file in api.get("torrents/files", hash=info_hash)} == {1}
    api.post("torrents/delete", hashes=info_hash, deleteFiles="false")


def cross_seed_6(api, user, password, metainfo, info_hash, dir):
    """It starts nothing before it has seen what a check has found."""
    api.login(user, password)
    api.get("app/version")
    api.get("app/preferences")
    fields = {"tags": "cross-seed", "savepath": str(dir), "autoTMM": "false", "contentLayout": "Original", "skip_checking": "false", "stopped": "true", "paused": "true"}
    assert api.upload(metainfo, **fields) == "Ok."
    api.wait_for(info_hash, ("stoppedUP", "stoppedDL"))
    api.post("torrents/stop", hashes=info_hash)
    api.post("torrents/recheck", hashes=info_hash)
    checking = ("checkingUP", "checkingDL", "checkingResumeData")
    found = until(lambda: (one := api.torrent(info_hash)) and one["state"] not in checking and one, SOON, "it is checked")
    assert (found["state"], found["progress"], found["amount_left"]) == ("stoppedUP", 1, 0), found
    api.post("torrents/start", hashes=info_hash)
    api.wait_for(info_hash, DONE)
    api.post("torrents/delete", hashes=info_hash, deleteFiles="false")


def flood(api, user, password, metainfo, info_hash, dir):
    api.login(user, password)
    api.get("app/version")
    api.get("app/preferences")
    api.post("app/setPreferences", json='{"dl_limit": 0, "up_limit": 0, "queueing_enabled": true}')
    first = api.get("sync/maindata", rid=0)
    assert first["full_update"] is True
    # By base64 in its own API, by a file here.
    fields = {"savepath": str(dir), "paused": "true", "stopped": "true", "root_folder": "unset", "contentLayout": "Original", "tags": "one", "sequentialDownload": "true", "skip_checking": "false"}
    assert api.upload(metainfo, **fields) == "Ok."
    second = api.get("sync/maindata", rid=first["rid"])
    assert "full_update" not in second and list(second["torrents"]) == [info_hash], second
    assert second["torrents"][info_hash]["seq_dl"] is True and second["tags"] == ["one"], second
    api.post("torrents/createTags", tags="two,three")
    api.post("torrents/removeTags", hashes=info_hash)
    api.post("torrents/addTags", hashes=info_hash, tags="two,three")
    api.post("torrents/start", hashes=info_hash)
    api.wait_for(info_hash, DONE)
    api.get("torrents/properties", hash=info_hash)
    api.get("torrents/trackers", hash=info_hash)
    api.get("torrents/files", hash=info_hash)
    api.get("sync/torrentPeers", hash=info_hash, rid=0)
    api.get("transfer/info")
    api.post("torrents/filePrio", hash=info_hash, id="0", priority="7")
    assert api.get("torrents/files", hash=info_hash)[0]["priority"] == 7
    api.post("torrents/topPrio", hashes=info_hash)
    api.post("torrents/setUploadLimit", hashes=info_hash, limit="1000")
    third = api.get("sync/maindata", rid=second["rid"])
    changed = third["torrents"][info_hash]
    assert (changed["tags"], changed["up_limit"], third["tags"]) == ("three, two", 1000, ["three", "two"]), third
    api.post("torrents/stop", hashes=info_hash)
    assert api.torrent(info_hash)["state"] == "stoppedUP"
    api.post("torrents/delete", hashes=info_hash, deleteFiles="false")
    last = api.get("sync/maindata", rid=third["rid"])
    assert last["torrents_removed"] == [info_hash], last
    api.post("app/setPreferences", json='{"queueing_enabled": false}')
    api.post("auth/logout")
    api.get("app/version", status=403)
