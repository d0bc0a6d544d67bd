"use strict";
(() => {
  const section = document.getElementById("explorer");
  let data = null;
  const pick = (name) => section.querySelector(`[name="${name}"]`);
  const [runs, layers, experts, beside, colour, words] = ["run", "layer", "expert", "beside", "colour", "words"].map(pick);
  const labels = section.querySelector(".labels tbody");
  const [note, relatives, legend, list, over, routed] = [".tokens", ".relatives", ".legend", ".passages", ".over", ".routed"].map((name) => section.querySelector(name));
  const hues = 7;
  const few = 4; // passages, until all are asked for
  let all = false;

  const make = (tag, text, kind) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const fill = (select, names) => select.replaceChildren(...names.map((name, i) => new Option(name, i)));
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const unpack = (layer) => {
    if (!layer.read) {
      const raw = bytes(layer.chosen);
      layer.none = layer.wide ? 65535 : 255;
      layer.read = layer.wide ? raw.reduce((all, byte, i) => { all[i >> 1] |= byte << (8 * (i & 1)); return all; }, new Uint16Array(raw.length / 2)) : raw;
      layer.gate = layer.weights ? bytes(layer.weights) : null;
    }
    return layer;
  };
  const paint = (node, hue, strength) => {
    const colour = hue < 0 ? "var(--muted)" : `var(--series-${hue + 1})`;
    node.style.background = `color-mix(in srgb, ${colour} ${Math.round(hue < 0 ? strength / 2 : strength)}%, transparent)`;
  };
  const slotsOf = (layer, row) => {
    const slots = [];
    for (let slot = 0; slot < layer.k; slot++) {
      const expert = layer.read[row * layer.k + slot];
      if (expert !== layer.none) slots.push([expert, layer.gate ? layer.gate[row * layer.k + slot] / 255 : null]);
    }
    return slots;
  };
  // What the colours of a layer mean: a name for each expert, and the hues of the names that most tokens have; with more
  // names than hues, the others are grey.
  const namedBy = (layer) => {
    if (!colour.value.startsWith("set ")) return (expert) => `expert ${expert}`;
    const set = colour.value.slice(4);
    const names = Object.fromEntries(Object.entries(layer.labels).map(([expert, rows]) => [expert, (rows.find((row) => row[0] === set && row[2] > 1) || [])[1]]));
    return (expert) => names[expert] || "no label";
  };
  const makePalette = (layer) => {
    layer.palettes ||= {};
    return (layer.palettes[colour.value] ||= findPalette(layer));
  };
  const findPalette = (layer) => {
    const name = namedBy(layer);
    const counts = new Map();
    for (let row = 0; row < layer.read.length; row += layer.k) {
      if (layer.read[row] === layer.none) continue;
      const own = name(layer.read[row]);
      counts.set(own, (counts.get(own) || 0) + 1);
    }
    const ranked = [...counts.keys()].filter((own) => own !== "no label").sort((a, b) => counts.get(b) - counts.get(a));
    const byNumber = colour.value.startsWith("set ") || layer.experts > hues;
    const hueOf = new Map(byNumber ? ranked.slice(0, hues).map((own, i) => [own, i]) : [...Array(layer.experts).keys()].map((i) => [`expert ${i}`, i]));
    const total = [...counts.values()].reduce((sum, each) => sum + each, 0);
    const shown = [...hueOf.keys()].filter((own) => counts.has(own)).map((own) => [own, hueOf.get(own), counts.get(own) / total]);
    const rest = total ? 1 - shown.reduce((sum, each) => sum + each[2], 0) : 0;
    return { name, hue: (expert) => hueOf.has(name(expert)) ? hueOf.get(name(expert)) : -1, shown: rest > 1e-9 ? [...shown, ["others", -1, rest]] : shown };
  };
  const listExperts = (layer, slots) => `layer ${layer.layer}: ` + (slots.map(([expert, weight]) => `expert ${expert}` + (weight === null ? "" : ` (${weight.toFixed(2)})`)).join(", ") || "no expert");

  const current = () => {
    const run = data.runs[runs.value];
    return [run, unpack(run.layers[layers.value]), Number(experts.value) - 1];
  };

  const showLabels = (layer, expert) => {
    const rows = expert < 0 ? [] : layer.labels[expert] || [];
    labels.replaceChildren(...rows.map(([set, label, lift, low, high, q]) => {
      const row = make("tr");
      const span = low === null ? "–" : `${low} to ${high}`;
      row.append(make("th", label), make("td", set), make("td", lift, "number"), make("td", span, "number"), make("td", q, "number"));
      row.firstChild.scope = "row";
      return row;
    }));
    section.querySelector(".labels").hidden = !rows.length;
    const tokens = expert < 0 ? [] : layer.tokens[expert] || [];
    const load = layer.load[expert];
    const share = load === undefined || load === null ? "" : ` receives ${percent(load)} % of the load (uniform: ${percent(1 / layer.experts)} %)`;
    // shares that are all the same are told once
    const tied = tokens.length > 1 && tokens.every(([, part]) => part !== null && part === tokens[0][1]) ? ` (${percent(tokens[0][1])} % of each)` : "";
    const named = tokens.map(([text, part]) => part === null || tied ? text : `${text} ${percent(part)} %`).join(" · ");
    const most = tokens.length ? `. Tokens of which it receives the largest share${tied}: ${named}` : "";
    note.textContent = expert < 0 ? `Layer ${layer.layer}. Choose an expert to see its strongest labels, the experts chosen together with it, and the passages that use it most.`
      : `Layer ${layer.layer}, expert ${expert}${share}${most}.`;
    showRelatives(layer, expert);
  };
  // Links to the experts that are chosen together with this one, and to those with similar labels.
  const showRelatives = (layer, expert) => {
    const link = (other) => {
      const anchor = make("a", `expert ${other}`);
      anchor.href = addressOf(layer, other);
      return anchor;
    };
    const listed = (others, tell) => others.flatMap(([other, ...numbers], place) => [place ? ", " : "", link(other), ` (${tell(...numbers)})`]);
    const partners = expert < 0 ? [] : layer.partners[expert] || [];
    const similar = expert < 0 ? [] : layer.similar[expert] || [];
    const lines = [];
    if (partners.length) lines.push(["Chosen together with ", ...listed(partners, (part, ratio) => `${percent(part)} % of its tokens, ${ratio} times as often as their loads predict`)]);
    for (const [set, others] of similar) lines.push([`Most similar by ${set}: `, ...listed(others, (r) => `r = ${r}`)]);
    relatives.replaceChildren(...lines.map((parts) => {
      const line = make("p", undefined, "note");
      line.append(...parts);
      return line;
    }));
  };
  const showLegend = (run, layer, other) => {
    const groups = [[run, layer], ...(other ? [other] : [])].map(([each, own]) => {
      const line = make("p", undefined, "note");
      if (other) line.append(make("b", each.name), " ");
      for (const [name, hue, part] of makePalette(own).shown) {
        const chip = make("span", `${name} ${Math.round(100 * part)} %`, "chip");
        paint(chip, hue, 38);
        line.append(chip, " ");
      }
      return line;
    });
    legend.replaceChildren(...groups);
  };
  const percent = (share) => Number((100 * share).toPrecision(3));

  // The line below the passages shows the experts of the current token, chosen by mouse, touch or arrow keys.
  const select = (span) => {
    for (const each of list.querySelectorAll(".current")) each.classList.remove("current");
    routed.hidden = !span;
    if (!span) return;
    span.classList.add("current");
    span.scrollIntoView({ block: "nearest" });
    routed.replaceChildren(make("b", span.textContent.trim() || "·"), ` ${span.title}`);
  };
  list.addEventListener("click", (event) => {
    const span = event.target.closest("span[title]");
    if (span) select(span);
  });
  list.addEventListener("keydown", (event) => {
    const passage = event.target.closest(".passage");
    if (!passage) return;
    const current = passage.querySelector(".current");
    const next = { ArrowRight: current ? current.nextElementSibling : passage.firstElementChild, ArrowLeft: current && current.previousElementSibling, Home: passage.firstElementChild, End: passage.lastElementChild }[event.key];
    if (event.key === "Escape") select(null);
    if (!next) return;
    event.preventDefault();
    select(next);
  });

  const textOf = (passage) => passage.tokens.join("");
  // The same document in another run, where the passage may end elsewhere: it has so many tokens.
  const findTwin = (run, passage) => run.passages.findIndex((each) => each.document === passage.document);
  const startOf = (run, number) => run.passages.slice(0, number).reduce((sum, passage) => sum + passage.tokens.length, 0);

  // A passage coloured by a layer, and the share of its tokens that an expert receives.
  const drawPassage = (run, layer, expert, number) => {
    const palette = makePalette(layer);
    const text = make("p", "", "passage");
    text.tabIndex = 0;
    const { tokens } = run.passages[number];
    let row = startOf(run, number);
    let hits = 0;
    for (const token of tokens) {
      const slots = slotsOf(layer, row++);
      const span = make("span", token);
      span.title = listExperts(layer, slots) + (slots.length && colour.value.startsWith("set ") ? `; ${palette.name(slots[0][0])}` : "");
      const [first] = slots;
      const own = slots.find(([each]) => each === expert);
      if (own) hits++;
      const shownSlot = expert < 0 ? first : own;
      if (shownSlot) paint(span, palette.hue(shownSlot[0]), colour.value === "weight" && shownSlot[1] !== null ? 75 * shownSlot[1] : 38);
      text.append(span);
    }
    return [text, hits / tokens.length];
  };
  const tellShare = (expert, share) => expert < 0 ? "" : ` ${Math.round(100 * share)} % of its tokens`;

  const drawBeside = (passage, layer, expert) => {
    const other = data.runs[beside.value];
    const twin = other ? findTwin(other, passage) : -1;
    if (twin < 0) return [];
    const found = other.layers.find((each) => each.layer === layer.layer);
    const head = make("h4", other.name);
    if (!found) {
      head.append(make("small", ` has no layer ${layer.layer} with experts`));
      return [head];
    }
    const [text, share] = drawPassage(other, unpack(found), expert, twin);
    head.append(make("small", tellShare(expert, share)));
    return [head, text];
  };

  const showPassages = (run, layer, expert) => {
    const wanted = words.value.toLowerCase();
    const shown = [...run.passages.entries()].filter(([, passage]) => textOf(passage).toLowerCase().includes(wanted)).map(([number, passage]) => {
      const article = make("article");
      article.id = `passage-${number + 1}`;
      const [text, share] = drawPassage(run, layer, expert, number);
      const head = make("h3", passage.title);
      head.append(make("small", tellShare(expert, share)));
      const button = make("button", "all layers");
      button.type = "button";
      button.addEventListener("click", () => showLayers(number));
      head.append(" ", button);
      const other = drawBeside(passage, layer, expert);
      article.append(head, ...(other.length ? [make("h4", run.name)] : []), text, ...other);
      return [share, number, article];
    });
    if (expert >= 0) shown.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const told = !shown.length ? `None of the ${run.passages.length} passages has this text.`
      : expert >= 0 && shown[0][0] === 0 ? "No token of these passages is routed to this expert." : "";
    const first = all || wanted ? shown : shown.slice(0, few);
    const more = make("button", `all ${shown.length} passages`);
    more.type = "button";
    more.addEventListener("click", () => { all = true; show(); });
    list.replaceChildren(...(told ? [make("p", told, "note")] : []), ...first.map(([, , article]) => article), ...(first.length < shown.length ? [more] : []));
  };

  const showLayers = (number) => {
    const [run] = current();
    const start = startOf(run, number);
    const tokens = run.passages[number].tokens;
    const table = make("table");
    table.append(make("caption", `${run.passages[number].title}: first expert of each token, by layer`));
    const head = table.createTHead().insertRow();
    head.append(make("th", "layer"), ...tokens.map((token) => make("th", token.trim() || "·")));
    const body = table.createTBody();
    for (const layer of run.layers.map(unpack)) {
      const palette = makePalette(layer);
      const line = body.insertRow();
      line.append(make("th", layer.layer));
      tokens.forEach((_, i) => {
        const slots = slotsOf(layer, start + i);
        const cell = make("td", slots.length ? slots[0][0] : "");
        if (slots.length) paint(cell, palette.hue(slots[0][0]), 45);
        line.append(cell);
      });
    }
    over.replaceChildren(table);
    over.hidden = false;
    over.focus();
    over.scrollIntoView({ block: "nearest" });
  };

  const show = () => {
    const [run, layer, expert] = current();
    const other = data.runs[beside.value];
    const twin = other && other.layers.find((each) => each.layer === layer.layer);
    showLabels(layer, expert);
    showLegend(run, layer, twin && [other, unpack(twin)]);
    showPassages(run, layer, expert);
    over.hidden = true;
    select(null);
  };
  const offerLayers = (run) => fill(layers, run.layers.map((layer) => layer.layer));
  const offerExperts = (layer) => fill(experts, ["all", ...Array(layer.experts).keys()]);
  const chooseLayer = () => {
    const layer = data.runs[runs.value].layers[layers.value];
    const kept = experts.value;
    offerExperts(layer);
    experts.value = kept && Number(kept) <= layer.experts ? kept : "0";
    show();
  };
  // A run is compared with those that have a document in common: runs of other corpora have none.
  const offerBeside = (run) => {
    const kept = beside.value;
    const others = data.runs.filter((other) => other !== run && run.passages.some((passage) => findTwin(other, passage) >= 0));
    beside.replaceChildren(new Option("no other run", ""), ...others.map((other) => new Option(other.name, data.runs.indexOf(other))));
    beside.value = others.includes(data.runs[kept]) ? kept : "";
    beside.parentElement.hidden = !others.length;
  };
  const offerRun = (run) => {
    offerLayers(run);
    offerBeside(run);
    const sets = [...new Set(run.layers.flatMap((layer) => Object.values(layer.labels).flatMap((rows) => rows.map((row) => row[0]))))];
    const kept = colour.value;
    colour.replaceChildren(new Option("expert", "expert"), new Option("expert and gate weight", "weight"), ...sets.map((set) => new Option(`strongest label of the expert, ${set}`, `set ${set}`)));
    colour.value = kept;
    if (colour.selectedIndex < 0) colour.value = "expert";
  };
  const chooseRun = () => {
    offerRun(data.runs[runs.value]);
    chooseLayer();
  };

  // What is shown has an address that can be sent: #layer-7-expert-27, of several runs #run-2-layer-7-expert-27-beside-1.
  const addressOf = (layer, expert) => {
    const run = data.runs.length > 1 ? `run-${Number(runs.value) + 1}-` : "";
    const other = beside.value === "" ? "" : `-beside-${Number(beside.value) + 1}`;
    return `#${run}layer-${layer.layer}${expert < 0 ? "" : `-expert-${expert}`}${other}`;
  };
  const remember = () => {
    const [, layer, expert] = current();
    history.pushState(null, "", addressOf(layer, expert));
  };
  const follow = () => {
    if (/^#passage-\d+$/.test(location.hash)) {
      all = true;
      show();
      const passage = document.getElementById(location.hash.slice(1));
      if (passage) passage.scrollIntoView();
    }
    const found = /^#(?:run-(\d+)-)?layer-(\d+)(?:-expert-(\d+))?(?:-beside-(\d+))?$/.exec(location.hash);
    const run = found && data.runs[Number(found[1] || 1) - 1];
    const place = run ? run.layers.findIndex((layer) => String(layer.layer) === found[2]) : -1;
    if (place < 0) return;
    runs.value = data.runs.indexOf(run);
    offerRun(run);
    layers.value = place;
    const known = Number(found[3]) < run.layers[place].experts;
    offerExperts(run.layers[place]);
    experts.value = known ? Number(found[3]) + 1 : 0;
    beside.value = found[4] - 1;
    if (beside.selectedIndex < 0) beside.value = "";
    show();
    section.scrollIntoView();
  };
  const onChange = (select, choose) => select.addEventListener("change", () => { choose(); remember(); });

  whenSeen(section, (address) => /^#(run-\d+-)?layer-\d|^#passage-\d/.test(address), (unpacked) => {
    data = unpacked;
    for (const run of data.runs) if (run.passages_of !== undefined) run.passages = data.runs[run.passages_of].passages;
    fill(runs, data.runs.map((run) => run.name));
    runs.parentElement.hidden = data.runs.length < 2;
    onChange(runs, chooseRun);
    onChange(layers, chooseLayer);
    onChange(experts, show);
    onChange(beside, show);
    colour.addEventListener("change", show);
    words.addEventListener("input", show);
    window.addEventListener("popstate", follow);
    chooseRun();
    follow();
  });
})();
