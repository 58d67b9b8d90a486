"use strict";
// Two pictures of one size, one over the other: what is left of the edge shows the first, what is right the second.
function comparison(figure) {
  const stage = figure.querySelector(".stage");
  const range = figure.querySelector("input[type=range]");
  const [left, right] = ["left", "right"].map((side) => stage.querySelector(`.tag.${side}`));
  const [over, under] = ["over", "under"].map((layer) => stage.querySelector(`.${layer}`));
  function place(percent) {
    const at = Math.min(100, Math.max(0, percent));
    range.value = at;
    stage.style.setProperty("--at", `${at}%`);
    range.setAttribute("aria-valuetext", `${Math.round(at)} % ${left.textContent}, the rest ${right.textContent}`);
  }
  function show(layer, tag, picture) {
    layer.src = picture.source;
    layer.alt = `${figure.dataset.title}: ${picture.name}`;
    tag.textContent = picture.name;
  }
  range.addEventListener("input", () => place(Number(range.value)));
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    place((100 * (event.clientX - box.left)) / box.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => event.buttons & 1 && follow(event));
  return {
    pair(first, second) {
      show(over, left, first);
      show(under, right, second);
      place(Number(range.value));
    },
  };
}

// All figures of a page that choose what they show by the same two lists.
function comparisons(group) {
  const [first, second] = group.querySelectorAll("select");
  const figures = [...group.querySelectorAll("figure[data-title]")].map((figure) => {
    const pictures = JSON.parse(figure.querySelector("script").textContent);
    return { pictures, view: comparison(figure) };
  });
  const named = (pictures, name) => pictures.find((picture) => picture.name === name) ?? pictures[0];
  function refresh() {
    for (const { pictures, view } of figures) view.pair(named(pictures, first.value), named(pictures, second.value));
  }
  first.addEventListener("change", refresh);
  second.addEventListener("change", refresh);
  refresh();
}
for (const group of document.querySelectorAll("[data-comparisons]")) comparisons(group);
