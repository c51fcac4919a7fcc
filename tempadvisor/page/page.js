
"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const make = (name, kind, text) => {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  root.classList.add("js");

  const nameOf = (k) => (data.names ? data.names[k] : String(k));
  const percent = (p) => {
    if (p > 0.9995) return p === 1 ? "100 %" : "> 99.9 %";
    if (p < 0.0005) return "< 0.1 %";
    return `${(100 * p).toFixed(p < 0.0995 || p > 0.99 ? 1 : 0)} %`;
  };
  const points = (a) => {
    const text = Math.abs(100 * a).toFixed(1);
    return text === "0.0" ? text : `${a < 0 ? "\u2212" : "+"}${text}`;
  };
  const short = (t) => String(Number(t.toPrecision(3)));

  const softmax = (z, t) => {
    const p = new Float64Array(z.length);
    let total = 0;
    for (let k = 0; k < z.length; k++) total += p[k] = Math.exp(z[k] / t); // the highest logit is 0
    for (let k = 0; k < z.length; k++) p[k] /= total;
    return p;
  };
  const entropy = (p) => {
    let sum = 0;
    for (const one of p) if (one > 0) sum -= one * Math.log(one);
    return sum;
  };
  // A curve's value at t, linear in log t between its points and flat outside.
  const at = (ts, values, t) => {
    let i = 1;
    while (i < ts.length - 1 && ts[i] < t) i++;
    const share = Math.log(t / ts[i - 1]) / Math.log(ts[i] / ts[i - 1]);
    return values[i - 1] + Math.min(Math.max(share, 0), 1) * (values[i] - values[i - 1]);
  };

  const isKnown = (ts, t) => ts[0] <= 1.001 * t && t <= 1.001 * ts[ts.length - 1];

  const LEAST_MARKED = 0.02;
  // One row with a bar; returns a function that sets its share.
  const row = (list, name, kind, ghost) => {
    const item = make("li", kind);
    const said = make("span", "name", name);
    said.title = name;
    const rail = make("span", "rail");
    const fill = make("span", "fill");
    const share = make("span", "share");
    rail.append(fill);
    if (ghost > LEAST_MARKED) {
      const mark = make("span", "ghost");
      mark.style.left = `${(100 * ghost).toFixed(2)}%`;
      rail.append(mark);
    }
    item.append(said, rail, share);
    list.append(item);
    return (p) => {
      fill.style.transform = `scaleX(${p.toFixed(4)})`;
      share.textContent = percent(p);
    };
  };

  // Samples: what the student sees of each.
  const SHOWN = 5;
  const sampleCards = () => {
    const place = byId("samples");
    if (!place) return () => {};
    const longest = Math.max(...data.samples.flatMap(({ z }) =>
      Array.from(z.keys()).sort((a, b) => z[b] - z[a]).slice(0, SHOWN).map((k) => nameOf(k).length)));
    place.style.setProperty("--name", `${Math.min(Math.max(longest + 1, 11), 18)}ch`);
    const cards = data.samples.map(({ z, label }, i) => {
      const card = make("li", "sample");
      const ranked = Array.from(z.keys()).sort((a, b) => z[b] - z[a]);
      const first = softmax(z, 1);
      const top = first[ranked[0]];
      const wrong = label !== null && z[label] < 0;
      const title = make("h4", "", label === null ? `Sample ${i + 1} ` : `${nameOf(label)} `);
      const word = wrong ? `taken for ${nameOf(ranked[0])}` : top > 0.95 ? "sure" : top > 0.7 ? "fairly sure" : "unsure";
      title.append(make("span", wrong ? "tag wrong" : "tag", `\u2013 ${word}`));
      const said = make("p");
      const list = make("ul", "rows");
      const shown = ranked.slice(0, ranked.length === SHOWN + 1 ? SHOWN + 1 : SHOWN);
      if (label !== null && !shown.includes(label)) shown.push(label);
      const bars = shown.map((k) => row(list, nameOf(k), k === label ? "label" : "", first[k]));
      const left = z.length - shown.length;
      const rest = (p) => Math.max(0, 1 - shown.reduce((sum, k) => sum + p[k], 0));
      const others = left ? row(list, `${left.toLocaleString("en")} others`, "others", rest(first)) : () => {};
      card.append(title, said, list);
      place.append(card);
      return (t) => {
        const p = softmax(z, t);
        const h = entropy(p);
        said.textContent = `entropy ${h.toFixed(3)} nats, ${percent(h / Math.log(z.length))} of its maximum`;
        shown.forEach((k, j) => bars[j](p[k]));
        others(rest(p));
      };
    });
    return (t) => cards.forEach((draw) => draw(t));
  };

  // Classes: which the teacher thinks alike.
  const classMap = () => {
    const place = byId("map");
    if (!place || !data.alike.distances) return () => {};
    const { classes, order, distances } = data.alike;
    const n = order.length;
    const canvas = place.querySelector("canvas");
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d");
    const image = context.createImageData(n, n);
    const names = place.querySelector("ol");
    if (n <= 32) for (const i of order) {
      const item = make("li");
      item.append(make("span", "", nameOf(classes[i])));
      names.append(item);
    }
    const color = (name) => {
      const text = getComputedStyle(root).getPropertyValue(name).trim();
      return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
    };
    let from, to, own, last;
    const look = () => { from = color("--paper"); to = color("--cool"); own = color("--rule"); };
    const draw = (t) => {
      last = t;
      for (let a = 0; a < n; a++) for (let b = 0; b < n; b++) {
        const like = Math.exp(-distances[order[a]][order[b]] / t / 2); // a square root, so that little shows too
        for (let c = 0; c < 3; c++) {
          image.data[4 * (a * n + b) + c] = a === b ? own[c] : from[c] + like * (to[c] - from[c]);
        }
        image.data[4 * (a * n + b) + 3] = 255;
      }
      context.putImageData(image, 0, 0);
    };
    const pointed = place.querySelector("p");
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const [a, b] = [event.clientY - box.top, event.clientX - box.left].map((v) =>
        order[Math.min(n - 1, Math.max(0, Math.floor((v / box.width) * n)))]);
      pointed.textContent = a === b ? nameOf(classes[a])
        : `${nameOf(classes[a])} and ${nameOf(classes[b])}: ${percent(Math.exp(-distances[a][b] / last))}`;
    });
    canvas.addEventListener("pointerleave", () => { pointed.textContent = ""; });
    const again = () => { look(); if (last) draw(last); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    matchMedia("print").addEventListener("change", again);
    look();
    return draw;
  };

  const MOST_PAIRS = 12;
  const LONG_PAIR = 24; // letters, beyond which its names stand one below the other
  const MOST_FOUND = 5;
  const classPairs = () => {
    const list = byId("pairs");
    if (!list) return { draw: () => {} };
    const { classes, near } = data.alike;
    const pairs = [];
    near.forEach((others, i) => others.forEach(([j, d]) => {
      if (i < j || !near[j].some(([k]) => k === i)) pairs.push([i, j, d]);
    }));
    pairs.sort((a, b) => a[2] - b[2]);
    const bars = pairs.slice(0, MOST_PAIRS).map(([i, j, d]) => {
      const [a, b] = [nameOf(classes[i]), nameOf(classes[j])];
      const set = row(list, `${a} \u2013 ${b}`, "");
      if (a.length + b.length > LONG_PAIR) {
        const lines = [a, b].map((name) => make("span", "", name));
        list.lastElementChild.querySelector(".name").replaceChildren(...lines);
      }
      return [set, d];
    });
    const found = byId("found");
    let hits = [];
    let last;
    const draw = (t) => {
      last = t;
      for (const [set, d] of bars) set(Math.exp(-d / t));
      for (const [set, d] of hits) set(Math.exp(-d / t));
    };
    byId("find")?.addEventListener("input", (event) => {
      const words = event.target.value.trim().toLowerCase();
      const some = classes.map((k, i) => [nameOf(k), i]).filter(([name]) => words && name.toLowerCase().includes(words));
      some.sort(([a], [b]) => (b.toLowerCase() === words) - (a.toLowerCase() === words));
      found.replaceChildren();
      hits = some.slice(0, MOST_FOUND).flatMap(([name, i]) => {
        const rows = make("ul", "rows pairs");
        found.append(make("h4", "", name), rows);
        return near[i].map(([j, d]) => [row(rows, nameOf(classes[j]), ""), d]);
      });
      const more = some.length > MOST_FOUND ? `The first ${MOST_FOUND} of ${some.length} classes found.`
        : words && !some.length ? "No class is called so." : "";
      if (more) found.append(make("p", "soft small", more));
      draw(last);
    });
    return { draw };
  };

  // The slider.
  const slider = byId("t");
  const [low, high] = [data.low, data.high].map(Math.log2);
  const across = (t) => (100 * (Math.log2(t) - low)) / (high - low);
  const lines = document.querySelectorAll(".follows line.now");
  const dot = document.querySelector(".follows circle.now");
  const parts = [sampleCards(), classMap(), classPairs().draw];
  let temperature = data.start;

  const show = (t) => {
    temperature = t;
    const x = `${across(t).toFixed(3)}%`;
    for (const line of lines) { line.setAttribute("x1", x); line.setAttribute("x2", x); }
    const said = [`T = ${short(t)}`];
    byId("shown").textContent = short(t);
    if (data.softness) {
      const known = isKnown(data.softness.t, t);
      const h = at(data.softness.t, data.softness.entropy, t) / Math.log(data.k);
      const top = at(data.softness.t, data.softness.top, t);
      byId("entropy").textContent = known ? percent(h) : "?";
      byId("top").textContent = known ? percent(top) : "?";
      said.push(...(known ? [`mean entropy ${percent(h)} of its maximum`, `top class ${percent(top)}`] : ["softness not measured"]));
    }
    if (data.curve) {
      const known = isKnown(data.curve.t, t);
      const mean = at(data.curve.t, data.curve.mean, t);
      const std = at(data.curve.t, data.curve.std, t);
      byId("accuracy").textContent = known ? `${points(mean)} \u00b1 ${(100 * std).toFixed(1)}` : "?";
      said.push(known ? `accuracy ${points(mean)} plus or minus ${(100 * std).toFixed(1)} points against the best`
        : "accuracy not known");
      if (dot) {
        dot.toggleAttribute("hidden", !known);
        const [bottom, top] = data.curve.extent;
        dot.setAttribute("cx", x);
        dot.setAttribute("cy", `${((100 * (top - mean)) / (top - bottom)).toFixed(3)}%`);
      }
    }
    slider.setAttribute("aria-valuetext", said.join(", "));
    for (const draw of parts) draw(t);
  };
  const steps = Number(slider.max);
  const jump = (t) => {
    slider.value = Math.round((across(t) / 100) * steps);
    show(t); // as it is, between two steps too
  };
  slider.addEventListener("input", () => show(2 ** (low + (slider.valueAsNumber / steps) * (high - low))));
  for (const button of document.querySelectorAll("[data-jump]")) {
    button.addEventListener("click", () => jump(Number(button.dataset.jump)));
  }
  let before;
  addEventListener("beforeprint", () => { before = temperature; jump(data.start); });
  addEventListener("afterprint", () => { jump(before); });
  jump(data.start);

  // Copy buttons.
  const copy = async (block) => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(block); // an older browser, or one that asks and was told no
      return document.execCommand("copy");
    }
  };
  for (const button of document.querySelectorAll(".copy button")) {
    button.addEventListener("click", async () => {
      const done = await copy(button.parentElement.querySelector("pre"));
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
