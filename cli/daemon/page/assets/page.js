"use strict";
// What the page does beyond showing: it looks again when the daemon says so, sends for the rows that are seen, keeps what is selected, and
// listens to keys. All that is shown comes from the daemon as HTML.
(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;
  const base = document.body.dataset.base;
  const list = find("#list");
  const dialog = find("#dialog");
  root.classList.add("has-script");

  // ---- Looking again -------------------------------------------------------------------------------------------------------------

  const QUIET = 15000;
  let source = null, timer = null;

  function connect() {
    const live = document.body.dataset.live;
    if (source || document.hidden || live === base) return;
    source = new EventSource(live);
    // What came before it was open is not told.
    source.onopen = () => { offline(false); look(); };
    source.onmessage = look;
    source.onerror = () => { offline(true); if (source.readyState === EventSource.CLOSED) { disconnect(); look(); } };
    // Peers and trackers change without a word.
    timer = setInterval(() => { if (source?.readyState === EventSource.OPEN && !list) look(); else if (!source) connect(); }, list ? QUIET : 3000);
  }

  function disconnect() {
    source?.close();
    source = null;
    clearInterval(timer);
    timer = document.hidden ? null : setInterval(connect, QUIET);
  }

  const offline = (is) => { find("#offline").hidden = !is; };

  let busy = false, again = false;
  async function look() {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      const url = list ? windowUrl() : partUrl();
      if (url) await htmx.ajax("GET", url, { target: "#said", swap: "none" }).catch(() => {});
    } while (again);
    busy = false;
  }

  function partUrl() {
    if (!document.body.matches(".in-torrent, .in-settings")) return null;
    const url = new URL(location.href);
    url.searchParams.set("part", "1");
    return url.pathname + url.search;
  }

  // ---- The rows that are seen ----------------------------------------------------------------------------------------------------

  const state = () => {
    const data = find("#list-state").dataset;
    return { ...data, from: +data.from, count: +data.count, total: +data.total };
  };
  const rowHeight = () => find(".row")?.offsetHeight || 56;
  let fresh = false;

  function seen() {
    const height = rowHeight();
    const first = Math.max(0, Math.floor((barHeight() - find("#rows").getBoundingClientRect().top) / height));
    return { first, count: Math.ceil(innerHeight / height) + 1 };
  }
  const barHeight = () => find(".bar").offsetHeight;

  function wanted() {
    const { first, count } = seen();
    const now = state();
    const covers = now.from <= first && now.from + now.count >= Math.min(now.total, first + count);
    const from = covers ? now.from : Math.max(0, first - count);
    return { from, count: Math.min(240, Math.max(60, 3 * count)), covers };
  }

  function windowUrl() {
    const now = state(), { from, count } = wanted();
    const query = new URLSearchParams(list.dataset.query);
    query.set("from", from);
    query.set("count", count);
    if (!fresh) {
      query.set("since", now.revision);
      query.set("key", now.key);
      query.set("sides", now.sides);
    }
    fresh = false;
    return `${base}/rows?${query}`;
  }

  function settle() {
    if (!list) return;
    const height = rowHeight();
    for (const gap of all(".gap")) gap.firstElementChild.style.height = `${gap.dataset.rows * height}px`;
    find("#table").setAttribute("aria-rowcount", state().total);
    showChosen();
  }

  let framed = false;
  function onScroll() {
    if (framed) return;
    framed = true;
    requestAnimationFrame(() => {
      framed = false;
      if (!wanted().covers) look();
    });
  }

  let typing = null;
  function search(text) {
    const query = new URLSearchParams(list.dataset.query);
    text ? query.set("q", text) : query.delete("q");
    list.dataset.query = query.toString();
    history.replaceState(null, "", `${base}/${query.size ? `?${query}` : ""}`);
    for (const link of all("a[data-keep]")) {
      const url = new URL(link.href);
      text ? url.searchParams.set("q", text) : url.searchParams.delete("q");
      link.href = url;
    }
    chosen.clear();
    fresh = true;
    scrollTo(0, 0);
    look();
  }

  // ---- What is selected ----------------------------------------------------------------------------------------------------------

  const chosen = new Set();

  function showChosen() {
    for (const row of all(".row")) {
      const box = find("input", row);
      box.checked = chosen.has(box.value);
      row.classList.toggle("is-chosen", box.checked);
    }
    const every = find("#choose-all"), { total } = state();
    every.checked = chosen.size > 0 && chosen.size >= total;
    every.indeterminate = chosen.size > 0 && !every.checked;
    root.classList.toggle("has-chosen", chosen.size > 0);
    find("#chosen-count").textContent = `${chosen.size} selected`;
  }

  function choose(id, is) {
    is ? chosen.add(id) : chosen.delete(id);
    showChosen();
  }

  async function chooseAll(is) {
    chosen.clear();
    if (is) {
      const answer = await fetch(`${base}/ids?${list.dataset.query}`);
      if (answer.ok) for (const id of (await answer.text()).split(",")) if (id) chosen.add(id);
    }
    showChosen();
  }

  let lastBox = null;
  function onBox(event) {
    const box = event.target;
    const boxes = all(".row .pick input");
    const [a, b] = [boxes.indexOf(lastBox), boxes.indexOf(box)];
    if (event.shiftKey && a >= 0 && b >= 0) {
      for (const one of boxes.slice(Math.min(a, b), Math.max(a, b) + 1)) box.checked ? chosen.add(one.value) : chosen.delete(one.value);
    }
    lastBox = box;
    choose(box.value, box.checked);
  }

  const act = (path, values) => htmx.ajax("POST", base + path, { target: "#said", swap: "none", values });

  // ---- The dialog ----------------------------------------------------------------------------------------------------------------

  let opener = null;
  function open(url) {
    opener = document.activeElement;
    return htmx.ajax("GET", url, { target: "#dialog", swap: "innerHTML" });
  }

  function fill({ text, files }) {
    if (text) find("#add-links").value = text;
    if (files?.length) find("#add-files").files = files;
    find("#add-go")?.focus();
  }

  async function add(what) {
    if (dialog.open && !find("#add-form", dialog)) return;
    if (!dialog.open) await open(`${base}/add`);
    fill(what);
  }

  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    document.body.append(find("#said"));
    if (opener?.isConnected) opener.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // ---- Events of HTMX ------------------------------------------------------------------------------------------------------------

  const on = (name, handler) => document.body.addEventListener(name, handler);
  let quiet = null;

  on("htmx:configRequest", (event) => {
    const { path, parameters, elt } = event.detail;
    if (elt.closest?.("#chosen") && (path === `${base}/do` || path === `${base}/remove`)) {
      delete parameters.id;
      parameters.ids = [...chosen].join(",");
    }
  });
  on("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && dialog.childElementCount) {
      dialog.setAttribute("aria-labelledby", "dialog-title");
      if (!dialog.open) dialog.showModal();
      find("[autofocus]", dialog)?.focus();
      const off = find("#keys-off");
      if (off) off.checked = keysAreOff();
    }
  });
  on("htmx:oobAfterSwap", (event) => {
    const id = event.detail.target?.id;
    if (id === "said") {
      // A dialog hides what is said beside it.
      if (dialog.open && find("#said").classList.contains("wrong")) dialog.append(find("#said"));
      clearTimeout(quiet);
      quiet = setTimeout(() => find("#said").replaceChildren(), find("#said").classList.contains("wrong") ? 12000 : 5000);
    }
  });
  on("htmx:afterOnLoad", settle);
  on("htmx:afterSettle", settle);
  on("htmx:sendError", () => offline(true));
  on("htmx:afterRequest", (event) => {
    const { successful, elt } = event.detail;
    if (successful && elt.matches?.("form[data-clear]")) elt.reset();
  });
  on("done", () => {
    if (dialog.open) dialog.close();
    if (list) {
      fresh = false;
      const gone = [...chosen];
      setTimeout(() => forget(gone), 0);
    }
  });
  on("changed", () => look());

  // Those that were removed are not selected any more.
  async function forget(ids) {
    if (!ids.length) return;
    const answer = await fetch(`${base}/ids`);
    if (!answer.ok) return;
    const here = new Set((await answer.text()).split(","));
    for (const id of ids) if (!here.has(id)) chosen.delete(id);
    showChosen();
  }

  // ---- What is pressed -----------------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      open(link.getAttribute("href"));
    }
    if (event.target.closest("[data-close]")) dialog.close();
    const copy = event.target.closest("[data-copy]");
    if (copy) navigator.clipboard?.writeText(copy.dataset.copy).then(() => say("Copied"), () => say("The browser does not let it be copied"));
    if (event.target.closest("#choose-none")) chooseAll(false);
    if (event.target.matches?.(".row .pick input")) onBox(event);
  });

  function say(text) {
    const line = document.createElement("p");
    line.textContent = text;
    find("#said").className = "said";
    find("#said").replaceChildren(line);
    clearTimeout(quiet);
    quiet = setTimeout(() => find("#said").replaceChildren(), 4000);
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "choose-all") chooseAll(event.target.checked);
    if (event.target.id === "more" && event.target.value) {
      act("/do", { action: event.target.value, ids: [...chosen].join(",") });
      event.target.value = "";
    }
    if (event.target.id === "keys-off") localStorage.setItem("swarm-keys-off", event.target.checked ? "1" : "");
  });
  document.addEventListener("input", (event) => {
    if (!list || event.target.id !== "search") return;
    clearTimeout(typing);
    typing = setTimeout(() => search(event.target.value.trim()), 180);
  });
  document.addEventListener("submit", (event) => {
    if (list && event.target.matches(".bar .search")) {
      event.preventDefault();
      clearTimeout(typing);
      search(find("#search").value.trim());
    }
  });

  // ---- What is dropped and pasted ------------------------------------------------------------------------------------------------

  const isLink = (line) => /^(magnet:\?|https?:\/\/|[0-9a-f]{40}$|[0-9a-f]{64}$|[a-z2-7]{32}$)/i.test(line);
  const links = (text) => text.split(/\s*[\r\n]+\s*/).filter(isLink).join("\n");
  const drop = find("#drop");
  let depth = 0;
  if (drop) {
    const shows = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list" || type === "text/plain");
    addEventListener("dragenter", (event) => { if (shows(event)) { depth += 1; drop.hidden = false; } });
    addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) { depth = 0; drop.hidden = true; } });
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      drop.hidden = true;
      const { files } = event.dataTransfer;
      const text = links(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
      if (files.length || text) add({ files, text });
    });
  }
  addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea, select")) return;
    const { files } = event.clipboardData;
    const text = links(event.clipboardData.getData("text/plain"));
    if (files.length || text) { event.preventDefault(); add({ files, text }); }
  });

  // ---- Keys ----------------------------------------------------------------------------------------------------------------------

  const keysAreOff = () => localStorage.getItem("swarm-keys-off") === "1";
  const here = () => document.activeElement?.closest?.(".row");
  let at = null;

  async function go(index) {
    const { total } = state();
    if (!total) return;
    const to = Math.min(total, Math.max(1, index));
    let row = find(`.row[aria-rowindex="${to}"]`);
    if (!row) {
      const height = rowHeight();
      scrollTo(0, find("#rows").getBoundingClientRect().top + scrollY + (to - 1) * height - innerHeight / 2);
      await new Promise(requestAnimationFrame);
      while (busy) await new Promise((done) => setTimeout(done, 20));
      await look();
      row = find(`.row[aria-rowindex="${to}"]`);
    }
    at = to;
    const link = row && find(".name a", row);
    link?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  }

  const named = () => (chosen.size ? [...chosen] : here() ? [find("input", here()).value] : []);

  function pauseOrResume() {
    const ids = named();
    if (!ids.length) return;
    const row = here() || find(`#t${CSS.escape(ids[0])}`);
    const action = row && find('.act [value="resume"]', row) ? "resume" : "pause";
    act("/do", { action, ids: ids.join(",") });
  }

  const ofList = {
    j: () => go((here() ? +here().ariaRowIndex : at ?? 0) + 1),
    k: () => go((here() ? +here().ariaRowIndex : at ?? 2) - 1),
    x: () => here() && choose(find("input", here()).value, !chosen.has(find("input", here()).value)),
    p: pauseOrResume,
    Delete: () => {
      const ids = named();
      if (ids.length) { opener = document.activeElement; htmx.ajax("POST", `${base}/remove`, { target: "#dialog", swap: "innerHTML", values: { ids: ids.join(",") } }); }
    },
    Escape: () => chooseAll(false),
    Home: () => go(1),
    End: () => go(state().total),
  };
  Object.assign(ofList, { ArrowDown: ofList.j, ArrowUp: ofList.k, " ": ofList.x });

  const ofAll = {
    "/": () => find("#search")?.focus(),
    a: () => open(`${base}/add`),
    "?": () => open(`${base}/keys`),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key.length === 1 && keysAreOff()) return;
    const onButton = event.target.matches("button, input, a:not(.row a)");
    const isArrow = ["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key);
    // Space presses what is focused; arrows scroll unless a row is.
    if (event.key === " " && (onButton || !here())) return;
    if (isArrow && !here()) return;
    const handler = ofAll[event.key] || (list && ofList[event.key]);
    if (handler) { event.preventDefault(); handler(); }
  });

  // ---- Beginning -----------------------------------------------------------------------------------------------------------------

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); return; }
    clearInterval(timer);
    connect();
  });
  addEventListener("pagehide", () => {
    if (list) sessionStorage.setItem(`at:${location.search}`, scrollY);
    disconnect();
  });
  addEventListener("pageshow", connect);
  if (list) {
    settle();
    addEventListener("scroll", onScroll, { passive: true });
    addEventListener("resize", () => { settle(); onScroll(); });
    const before = +sessionStorage.getItem(`at:${location.search}`);
    if (before) { scrollTo(0, before); onScroll(); }
    // The way back leads to the list as it was left.
    addEventListener("pagehide", () => sessionStorage.setItem("list", location.search));
  } else {
    const back = find("#back");
    const before = sessionStorage.getItem("list");
    if (back && before) back.href = `${base}/${before}`;
  }
})();
