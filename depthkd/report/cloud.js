"use strict";
// Colored points of a depth map, drawn by a camera that turns around their middle: squares with a z-buffer.
function cloud(figure) {
  const canvas = figure.querySelector("canvas");
  const context = canvas.getContext("2d");
  const START = { yaw: 0.3, pitch: 0.12, away: 1.2 };
  const TURN = 0.08, LARGEST = 9, FINEST = 960;
  let view = { ...START }, scene = null, swing = 0, waiting = false;

  function unpack(text, count) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Uint16Array(bytes.buffer, 0, count);
  }

  async function load(data, source) {
    const picture = new Image();
    picture.src = data.image;
    await picture.decode();
    const shot = document.createElement("canvas");
    [shot.width, shot.height] = [data.width, data.height];
    const drawing = shot.getContext("2d", { willReadFrequently: true });
    drawing.drawImage(picture, 0, 0, data.width, data.height);
    const colors = new Uint32Array(drawing.getImageData(0, 0, data.width, data.height).data.buffer);
    const codes = unpack(source.depth, data.width * data.height);
    const known = codes.reduce((number, code) => number + (code > 0), 0);
    const [x, y, z] = [0, 1, 2].map(() => new Float32Array(known));
    const paint = new Uint32Array(known);
    let at = 0;
    for (let pixel = 0; pixel < codes.length; pixel++) {
      if (!codes[pixel]) continue;
      const depth = source.near + ((codes[pixel] - 1) / 65534) * (source.far - source.near);
      x[at] = (((pixel % data.width) - data.center[0]) / data.focal[0]) * depth;
      y[at] = ((Math.floor(pixel / data.width) - data.center[1]) / data.focal[1]) * depth;
      z[at] = depth;
      paint[at++] = colors[pixel] | 0xff000000;
    }
    const middle = known ? Float32Array.from(z).sort()[known >> 1] : 1;
    scene = { x, y, z, paint, middle, width: data.width, height: data.height, focal: data.focal };
    draw();
  }

  function size() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.min(FINEST, Math.round(canvas.clientWidth * ratio)));
    canvas.height = Math.max(1, Math.round((canvas.width * 2) / 3));
  }

  function draw() {
    waiting = false;
    size();
    if (!scene) return;
    const { width, height } = canvas;
    const frame = context.createImageData(width, height);
    const pixels = new Uint32Array(frame.data.buffer);
    const nearest = new Float32Array(width * height).fill(Infinity);
    const scale = Math.min(width / scene.width, height / scene.height);
    const focal = scale * scene.focal[0];
    const yaw = view.yaw + swing;
    const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
    const { x, y, z, paint, middle } = scene;
    for (let at = 0; at < paint.length; at++) {
      const deep = z[at] - middle;
      const across = c * x[at] + s * deep;
      const behind = c * deep - s * x[at];
      const down = d * y[at] + t * behind;
      const far = d * behind - t * y[at] + view.away * middle;
      if (far < 0.05 * middle) continue;
      const side = Math.min(LARGEST, Math.max(1, Math.ceil((scale * 1.15 * z[at]) / far)));
      const left = Math.round(width / 2 + (focal * across) / far - side / 2);
      const top = Math.round(height / 2 + (focal * down) / far - side / 2);
      for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
        for (let column = Math.max(0, left); column < Math.min(width, left + side); column++) {
          const pixel = row * width + column;
          if (far >= nearest[pixel]) continue;
          nearest[pixel] = far;
          pixels[pixel] = paint[at];
        }
      }
    }
    context.putImageData(frame, 0, 0);
  }

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }

  function turn(yaw, pitch, closer = 1) {
    swing = 0;
    view.yaw += yaw;
    view.pitch = Math.min(1.4, Math.max(-1.4, view.pitch + pitch));
    view.away = Math.min(4, Math.max(0.15, view.away / closer));
    redraw();
  }

  const moves = {
    ArrowLeft: () => turn(TURN, 0), ArrowRight: () => turn(-TURN, 0), ArrowUp: () => turn(0, TURN), ArrowDown: () => turn(0, -TURN),
    "+": () => turn(0, 0, 1.1), "=": () => turn(0, 0, 1.1), "-": () => turn(0, 0, 1 / 1.1),
    Home: () => { view = { ...START }; turn(0, 0); },
  };
  canvas.addEventListener("keydown", (event) => {
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moves[event.key]();
  });
  for (const button of figure.querySelectorAll("button[data-key]")) {
    button.addEventListener("click", () => moves[button.dataset.key]());
  }
  const fingers = new Map();
  const apart = () => {
    const [one, two] = [...fingers.values()];
    return Math.hypot(one.x - two.x, one.y - two.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const spread = fingers.size > 1 ? apart() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (spread) return turn(0, 0, apart() / spread);
    turn((before.x - event.clientX) / 220, (before.y - event.clientY) / 220);
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return; // who only scrolls past is not held up
    event.preventDefault();
    turn(0, 0, event.deltaY < 0 ? 1.1 : 1 / 1.1);
  }, { passive: false });
  addEventListener("resize", redraw);

  // One slow look around, once, when it first comes into sight; none for those who want no motion.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    if (still.matches) return;
    const begin = performance.now();
    const yaw = view.yaw;
    (function step(now) {
      const share = Math.max(0, now - begin) / 3000;
      if (view.yaw !== yaw || share >= 1) return;
      swing = -0.55 * Math.sin(2 * Math.PI * share) * (1 - share);
      draw();
      requestAnimationFrame(step);
    })(begin);
  }, { threshold: 0.5 }).observe(canvas);
  return { load };
}
