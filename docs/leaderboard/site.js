// Sort and filter tables: headers of sortable tables become buttons, with a field above that filters rows.
// Tables are complete without this script.
"use strict";

const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v ?? cell.textContent.trim();
};

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const numeric = rows.every((row) => value(row, column) === "" || !Number.isNaN(Number(value(row, column))));
  const compare = (a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === ""); // empty cells come last in both orders
    const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en");
    return descending ? -order : order;
  };
  body.append(...rows.sort(compare));
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = table.querySelector(`tbody tr td:nth-child(${column + 1})`)?.classList.contains("n") && column > 0;
      const now = head.getAttribute("aria-sort");
      const descending = now === null ? Boolean(first) : now === "ascending"; // numbers are first sorted from the highest
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
}

function filterable(table, id) {
  const [label, field, status] = ["label", "input", "output"].map((name) => document.createElement(name));
  const paragraph = document.createElement("p");
  label.textContent = "Filter rows ";
  field.type = "search";
  field.id = status.htmlFor = label.htmlFor = id;
  paragraph.className = "filter";
  paragraph.append(label, field, " ", status);
  table.closest(".frame").before(paragraph);
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => (row.hidden = !words.every((word) => texts[i].includes(word))));
    status.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  field.addEventListener("input", show);
  show();
}

document.querySelectorAll("table.sortable").forEach((table, index) => {
  sortable(table);
  filterable(table, `filter-${index}`);
});
