"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  /* Light and dark: the system's, until a person chooses. */
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const remember = {
    get: () => { try { return localStorage.getItem("bakeoff-theme"); } catch { return null; } },
    set: theme => { try { localStorage.setItem("bakeoff-theme", theme); } catch { /* a file may have no storage */ } },
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const repaint = () => {
    button.textContent = isDark() ? button.dataset.light : button.dataset.dark;
    drawn.forEach(plot => Plotly.relayout(plot, paint()));
  };

  /* Pictures: drawn when they come into view, all of them before the page is printed. */
  const PAPER = { width: 680, height: 860 }; /* pixels: A4 less its margins, and less a title */
  const plots = all(".plot");
  const drawn = new Set();
  const phone = matchMedia("(max-width: 40rem)");
  /* A picture is kept as on paper, dark on white, whatever the page is. It is SVG: a PNG would go through a blob, which
     the policy refuses. */
  const keep = () => ({
    name: "keep", title: "Download plot", icon: Plotly.Icons.camera,
    click: plot => {
      const layout = { ...plot.layout, paper_bgcolor: "#ffffff", font: { ...plot.layout.font, color: "#222222" } };
      const size = { width: plot.offsetWidth, height: plot.offsetHeight };
      return Plotly.downloadImage({ data: plot.data, layout }, { format: "svg", filename: plot.parentNode.id, ...size });
    },
  });
  /* What stands above a picture is named, since plotly's own choice has a button that sends the data away. */
  const configuration = layout => ({
    responsive: true, displaylogo: false, displayModeBar: phone.matches ? false : "hover", plotlyServerURL: "",
    modeBarButtons: [[keep()], ...(layout.dragmode ? [["zoom2d", "pan2d", "resetScale2d"]] : [])],
  });

  /* What a picture takes from the page: plotly's key -> colour. Grids and marks bring colours that suit both papers. */
  const paint = () => ({ "font.color": getComputedStyle(root).getPropertyValue("--ink").trim() });
  const put = (target, path, value) => {
    const keys = path.split(/[.[\]]+/);
    const last = keys.pop();
    keys.reduce((inner, key) => (inner[key] ??= {}), target)[last] = value;
  };
  const draw = plot => {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    seen.unobserve(plot);
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    Object.entries(paint()).forEach(([path, colour]) => put(layout, path, colour));
    Plotly.newPlot(plot, data, layout, configuration(layout)).then(() => { plot.dataset.drawn = ""; });
  };
  const seen = new IntersectionObserver(
    entries => entries.filter(entry => entry.isIntersecting).forEach(entry => draw(entry.target)),
    { rootMargin: "400px 0px" },
  );
  plots.forEach(plot => {
    plot.style.height = `${plot.dataset.height}px`;
    seen.observe(plot);
  });

  /* Tables: sort by a column, keep the rows that have all the words. */
  const order = new Intl.Collator(root.lang, { numeric: true });
  const valueOf = (row, column) => row.cells[column].dataset.sort;
  const compare = (a, b, numeric) => (numeric ? Number(a) - Number(b) : order.compare(a, b));
  const sort = (table, head) => {
    const column = head.cellIndex;
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const now = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
    const sign = now === "ascending" ? 1 : -1;
    const rows = all("tr", table.tBodies[0]);
    const [known, missing] = [rows.filter(row => valueOf(row, column) !== undefined),
      rows.filter(row => valueOf(row, column) === undefined)];
    known.sort((a, b) => sign * compare(valueOf(a, column), valueOf(b, column), numeric));
    table.tBodies[0].append(...known, ...missing);
    all("[aria-sort]", table).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", now);
  };
  const filter = (sheet, text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = all("tbody tr", sheet);
    rows.forEach(row => {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every(word => content.includes(word));
    });
    sheet.querySelector(".none").hidden = rows.some(row => !row.hidden);
  };
  for (const sheet of all(".sheet")) {
    const table = sheet.querySelector("table");
    if (table.tBodies[0].rows.length > 1)
      for (const title of all("thead .title", table)) {
        const control = document.createElement("button");
        control.type = "button";
        title.replaceWith(control);
        control.append(title);
        control.addEventListener("click", () => sort(table, control.closest("th")));
      }
    const label = sheet.querySelector(".filter");
    if (!label) continue;
    label.hidden = false;
    label.querySelector("input").addEventListener("input", event => filter(sheet, event.target.value));
  }

  /* Paper: light, every picture on one sheet, everything unfolded; then all as it was. */
  let before = null;
  addEventListener("beforeprint", () => {
    const folded = all("details:not([open])");
    before = { theme: root.dataset.theme, folded };
    root.dataset.theme = "light";
    folded.forEach(details => { details.open = true; });
    plots.forEach(draw);
    plots.forEach(plot => {
      const scale = Math.min(1, PAPER.height / plot.dataset.height);
      plot.style.zoom = scale;
      Plotly.relayout(plot, { ...paint(), width: PAPER.width / scale });
    });
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    before.folded.forEach(details => { details.open = false; });
    plots.forEach(plot => {
      plot.style.zoom = "";
      Plotly.relayout(plot, { ...paint(), width: null, autosize: true });
    });
    before = null;
  });

  const kept = remember.get();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember.set(root.dataset.theme);
    repaint();
  });
  dark.addEventListener("change", repaint);
  repaint();
})();
