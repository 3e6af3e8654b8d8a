/* The filters and the order of the claims ledger. What is chosen stands in the part of the address
   after #, as in #part=II&verdict=partly, so that it can be sent, bookmarked and gone back to; any
   other address there is the name of a row. */
(function () {
  const form = document.getElementById("ledger-filters");
  const table = document.querySelector("table.claims-ledger");
  if (!form || !table) return;
  const names = ["part", "origin", "verdict", "q", "sort"];
  const rows = Array.from(table.tBodies).map((body, place) => ({
    body, place, facts: body.dataset, text: body.textContent.toLowerCase(),
  }));
  const heads = Array.from(table.querySelectorAll("th[data-sort]"));

  function chosen() {
    const hash = location.hash.slice(1);
    return new URLSearchParams(hash.includes("=") ? hash : "");
  }

  function fits(row, want) {
    const words = (want.get("q") || "").toLowerCase().split(/\s+/);
    const [part, origin, verdict] = names.map(name => want.get(name));
    return (!part || row.facts.part === part)
      && (!origin || row.facts.origin === origin || row.facts.whose === origin)
      && (!verdict || row.facts.verdict === verdict)
      && words.every(word => row.text.includes(word));
  }

  /* the order of verdicts and origins is that of the menus, not of the alphabet */
  function rank(row, key) {
    if (key === "fixed") return ["before", "after a pilot", "after the result", ""].indexOf(row.facts.fixed);
    if (key === "verdict" || key === "origin") {
      return Array.from(form.elements[key].options).findIndex(one => one.value === row.facts[key]);
    }
    return row.place;
  }

  function arrange(sort) {
    const key = sort.replace("-", ""), way = sort.startsWith("-") ? -1 : 1;
    const sorted = rows.slice().sort((a, b) => way * (rank(a, key) - rank(b, key)) || a.place - b.place);
    table.append(...sorted.map(row => row.body));
    heads.forEach(head => {
      const now = head.dataset.sort === key ? (way > 0 ? "ascending" : "descending") : "none";
      head.setAttribute("aria-sort", now);
    });
  }

  let arranged = "";
  function show() {
    const want = chosen();
    names.forEach(name => {
      const field = form.elements[name], value = want.get(name) || "";
      if (name === "sort") field.value = value.replace("-", "");
      else if (field.value.trim() !== value.trim()) field.value = value;
    });
    let count = 0;
    rows.forEach(row => {
      row.body.hidden = !fits(row, want);
      count += row.body.hidden ? 0 : 1;
    });
    const sort = want.get("sort") || "";
    if (sort !== arranged) arrange(sort);
    arranged = sort;
    document.getElementById("ledger-count").textContent =
      count === rows.length ? `${count} claims` : `${count} of ${rows.length} claims`;
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "TBODY") {
      target.querySelector("details").open = true;
      target.scrollIntoView();
    }
  }

  /* a choice is a step that Back undoes; a letter typed is not */
  function choose(sort, step) {
    const want = new URLSearchParams();
    names.slice(0, 4).forEach(name => {
      const value = form.elements[name].value;
      if (value.trim()) want.set(name, value);
    });
    if (sort) want.set("sort", sort);
    const hash = "#" + (want.toString() || "all=1");
    if (step) location.hash = hash;
    else location.replace(hash);
    show();
  }

  form.addEventListener("change", event => {
    if (event.target.name === "sort") choose(event.target.value, true);
    else if (event.target.name !== "q") choose(chosen().get("sort") || "", true);
  });
  form.addEventListener("input", event => {
    if (event.target.name === "q") choose(chosen().get("sort") || "", false);
  });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", event => {
    event.preventDefault();
    location.hash = "#all=1";
    show();
  });
  heads.forEach(head => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = head.dataset.sort, sort = chosen().get("sort") || "";
      choose(sort === key ? "-" + key : key, true);
    });
  });
  window.addEventListener("hashchange", show);
  window.addEventListener("pageshow", show);
  form.hidden = false;
  show();
})();
