"use strict";
for (const figure of document.querySelectorAll("figure.cloud")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const shown = cloud(figure);
  const select = figure.querySelector("select");
  const load = () => shown.load(data, data.sources[Number(select.value)]);
  select.addEventListener("change", load);
  load();
}
