"use strict";
(() => {
  const section = document.getElementById("experts");
  const pick = (name) => section.querySelector(`[name="${name}"]`);
  const [runs, layers, sets, words, tested] = ["run", "layer", "set", "words", "tested"].map(pick);
  const told = section.querySelector(".told");
  const alpha = 0.05;
  let data = null;
  let table = null;

  const fill = (select, names) => select.replaceChildren(...names.map((name, i) => new Option(name, i)));
  // The component takes texts for HTML: what a corpus says gets there as an element.
  const plain = (text) => {
    const node = document.createElement("span");
    node.textContent = text;
    return node;
  };
  const percent = (share) => Number((100 * share).toPrecision(3));

  // What is known of a label and an expert; of very many, intervals are not in the page.
  const describe = (set, row, place) => {
    const at = row * set.labels.length + place;
    if (set.lift[at] === null) return `${set.labels[place]}: no lift`;
    const span = set.low && set.low[at] !== null ? `, 95 % interval ${set.low[at]} to ${set.high[at]}` : "";
    const q = set.q[at] === null ? "" : `, q = ${set.q[at]}`;
    return `${set.labels[place]}: lift ${set.lift[at]}${span}${q}`;
  };
  const isTested = (set, at) => set.q[at] !== null && set.q[at] <= alpha;
  const strongest = (set, row) => {
    const from = row * set.labels.length;
    return [...set.labels.keys()].filter((place) => set.lift[from + place] > 1 && isTested(set, from + place))
      .sort((a, b) => set.lift[from + b] - set.lift[from + a]).slice(0, 3)
      .map((place) => `${set.labels[place]} ${set.lift[from + place]}`).join(", ");
  };

  const paint = (cell, set, place) => {
    const value = cell.getValue();
    if (value === null || value === undefined) return "";
    const node = cell.getElement();
    const doublings = Math.max(-2, Math.min(2, Math.log2(Math.max(value, 1e-9))));
    const beyond = isTested(set, cell.getData().row * set.labels.length + place);
    node.style.background = beyond ? `color-mix(in srgb, var(--series-${doublings > 0 ? 5 : 1}) ${Math.round(22 * Math.abs(doublings))}%, transparent)` : "";
    node.classList.toggle("faint", !beyond);
    return String(value);
  };

  const columnsOf = (run, set) => {
    const number = { hozAlign: "right", headerHozAlign: "right", headerSortStartingDir: "desc" };
    const whole = (_, cell) => plain(cell.getValue());
    const link = (cell) => {
      const { layer, expert } = cell.getData();
      const anchor = document.createElement("a");
      anchor.textContent = expert;
      anchor.href = `#${runs.options.length > 1 ? `run-${Number(runs.value) + 1}-` : ""}layer-${layer}-expert-${expert}`;
      return anchor;
    };
    const labels = set ? set.labels.map((label, place) => ({
      title: label, field: `label${place}`, ...number, minWidth: 70, formatter: (cell) => paint(cell, set, place),
      tooltip: (_, cell) => plain(describe(set, cell.getData().row, place)),
      headerClick: () => history.replaceState(null, "", addressOf(set, label)),
      cellClick: (_, cell) => { told.textContent = `Layer ${cell.getData().layer}, expert ${cell.getData().expert}: ${describe(set, cell.getData().row, place)}`; },
    })) : [];
    return [
      { title: "layer", field: "layer", ...number, headerSortStartingDir: "asc", frozen: true, width: 72 },
      { title: "expert", field: "expert", ...number, headerSortStartingDir: "asc", frozen: true, width: 84, formatter: document.getElementById("explorer") ? link : "plaintext" },
      { title: "load, %", field: "load", ...number },
      ...(run.effect ? [{ title: "effect, bits", field: "effect", ...number }] : []),
      ...(run.committee ? [{ title: "committee of", field: "committee", width: 170, tooltip: whole }] : []),
      ...(set ? [{ title: "information, bits", field: "information", ...number }, { title: "strongest labels", field: "strongest", width: 260, tooltip: whole }] : []),
      ...(set && set.selective ? [{ title: "selective for, bits", field: "selective", width: 200, tooltip: whole }] : []),
      ...(run.tokens.some(Boolean) ? [{ title: "tokens", field: "tokens", width: 200, tooltip: whole }] : []),
      ...labels,
    ];
  };
  const rowsOf = (run, set) => run.layer.map((layer, row) => {
    const shown = { row, layer, expert: run.expert[row], load: run.load[row] === null ? null : percent(run.load[row]), tokens: run.tokens[row] };
    if (run.effect) shown.effect = run.effect[row];
    if (run.committee) shown.committee = run.committee[row];
    if (!set) return shown;
    shown.information = set.information[row];
    shown.strongest = strongest(set, row);
    if (set.selective) shown.selective = set.selective[row];
    set.labels.forEach((_, place) => { shown[`label${place}`] = set.lift[row * set.labels.length + place]; });
    return shown;
  });

  const current = () => [data.runs[runs.value], data.runs[runs.value].sets[sets.value]];
  const filter = () => {
    const [, set] = current();
    const wanted = words.value.toLowerCase();
    table.setFilter((row) => (layers.value === "" || row.layer === Number(layers.value))
      && (!tested.checked || !set || row.strongest !== "")
      && (!wanted || `${row.strongest || ""} ${row.tokens}`.toLowerCase().includes(wanted)));
  };
  const count = (shown) => {
    const [run] = current();
    told.textContent = `${shown.toLocaleString("en")} of ${run.layer.length.toLocaleString("en")} experts`;
  };
  // The component scrolls its rows in an element that takes the focus, which has to be the group of rows to be part of a grid.
  const nameParts = () => {
    const grid = section.querySelector(".tabulator");
    grid.setAttribute("aria-label", "All experts");
    grid.removeAttribute("aria-owns");
    grid.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
    grid.querySelector(".tabulator-table").setAttribute("role", "presentation");
  };
  // A label has an address, which opens the table sorted by it; it is that of the label a click has sorted by.
  const addressOf = (set, label) => `#label-${encodeURIComponent(set.name)}-${encodeURIComponent(label)}`;
  const follow = () => {
    if (!location.hash.startsWith("#label-")) return;
    const known = data.runs.flatMap((run, number) => run.sets.flatMap((set, own) => set.labels.map((label, place) => [number, own, place, addressOf(set, label)])));
    const found = known.find((each) => each[3] === location.hash && each[0] === Number(runs.value)) || known.find((each) => each[3] === location.hash);
    if (!found) return;
    runs.value = found[0];
    chooseRun(found[1], `label${found[2]}`);
    section.scrollIntoView();
  };
  const show = (by) => {
    const [run, set] = current();
    if (table) table.destroy();
    table = new Tabulator(section.querySelector(".table"), {
      data: rowsOf(run, set), columns: columnsOf(run, set), maxHeight: "34rem", layout: "fitDataFill", placeholder: "No expert fits.",
      columnDefaults: { titleFormatter: "plaintext", headerTooltip: (_, column) => plain(column.getDefinition().title), resizable: false }, initialSort: [{ column: by || (set ? "information" : "load"), dir: "desc" }],
    });
    const own = table;
    table.on("tableBuilt", () => {
      if (own !== table) return; // another was asked for in the meantime
      nameParts();
      filter();
      if (by) own.scrollToColumn(by, "middle", false);
    });
    table.on("dataFiltered", (_, rows) => count(rows.length));
  };
  const chooseRun = (set = 0, by = "") => {
    const [run] = current();
    const kept = layers.value;
    layers.replaceChildren(new Option("all", ""), ...[...new Set(run.layer)].map((layer) => new Option(layer, layer)));
    layers.value = kept;
    if (layers.selectedIndex < 0) layers.value = "";
    fill(sets, run.sets.map((set) => set.name));
    sets.parentElement.hidden = !run.sets.length;
    sets.value = set;
    show(by);
  };

  whenSeen(section, (address) => address === "#experts" || address.startsWith("#label-"), (unpacked) => {
    data = unpacked;
    fill(runs, data.runs.map((run) => run.name));
    runs.parentElement.hidden = data.runs.length < 2;
    runs.addEventListener("change", () => chooseRun());
    sets.addEventListener("change", () => show());
    layers.addEventListener("change", filter);
    tested.addEventListener("change", filter);
    words.addEventListener("input", filter);
    window.addEventListener("popstate", follow);
    chooseRun();
    follow();
  });
})();
