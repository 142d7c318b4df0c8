"use strict";
(() => {
  // A link to what is folded away opens it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView({ block: "start" });
    const summary = target.querySelector(":scope > summary");
    if (summary) summary.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) reveal();
  });

  const specs = document.getElementById("specs");
  if (!specs) return reveal();
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const ink = "currentColor"; // so that charts follow light, dark and print by the page's own style
  const config = {
    background: null,
    font,
    view: { stroke: null },
    axis: {
      labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400,
      labelOpacity: 0.85, titleOpacity: 0.85, gridColor: ink, gridOpacity: 0.11, domainColor: ink,
      domainOpacity: 0.35, tickColor: ink, tickOpacity: 0.35, labelFlush: false, titlePadding: 8,
    },
    axisY: { domain: false, ticks: false, labelPadding: 6 },
    axisX: { grid: false },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12 },
    text: { color: ink, font },
  };
  const options = { actions: false, ast: true, renderer: "svg", defaultStyle: false, config };
  const draw = async () => {
    for (const { id, spec } of JSON.parse(specs.textContent)) {
      const place = document.getElementById(id);
      try {
        const { view } = await vegaEmbed(place, { ...spec, autosize: { type: "fit", contains: "padding" } }, options);
        for (const svg of place.querySelectorAll("svg")) svg.setAttribute("aria-hidden", "true"); // the figure has a label
        view.addEventListener("click", (_, item) => {
          const number = item && item.datum && item.datum.generation;
          if (Number.isInteger(number) && document.getElementById(`generation-${number}`)) {
            location.hash = `generation-${number}`;
          }
        });
      } catch (error) {
        place.textContent = `This chart could not be drawn: ${error.message} Its table is below.`;
      }
    }
    document.documentElement.dataset.drawn = "yes";
    reveal();
  };
  draw();
})();
