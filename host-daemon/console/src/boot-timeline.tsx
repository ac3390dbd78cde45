import { useEffect, useState } from "preact/hooks";
import type { BootPhase, Cvm } from "./api.ts";

/** How the latest boot spent its time: one bar, one row a phase. */
export function BootTimeline(
  props: { phases: readonly BootPhase[]; progress: string; status: Cvm["status"] },
) {
  const { phases, progress, status } = props;
  const lasting = status === "running" && phases.at(-1)?.seconds === undefined;
  const now = useNow(lasting);
  if (phases.length === 0) return null;
  const seconds = phases.map((phase) => phase.seconds ?? (now - phase.startedAtMs) / 1000);
  const total = seconds.reduce((sum, one) => sum + one, 0);
  return (
    <section class="boot" aria-label="Latest boot">
      <p class="quiet">
        {progress === "done" ? "Booted in " : "Boot: "}
        <strong>{total.toFixed(1)} s</strong>
      </p>
      <div class="bar" aria-hidden="true">
        {phases.map((phase, i) => (
          <span
            key={i}
            class={phase.seconds === undefined && lasting ? "segment lasting" : "segment"}
            style={{ flexGrow: Math.max(seconds[i]!, total / 100) }}
            title={`${phase.name}: ${seconds[i]!.toFixed(1)} s`}
          />
        ))}
      </div>
      <ol>
        {phases.map((phase, i) => (
          <li key={i}>
            <i class="swatch" aria-hidden="true" />
            {phase.name} <span class="quiet">{seconds[i]!.toFixed(1)} s</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function useNow(ticking: boolean): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!ticking) return;
    const timer = setInterval(() => setNow(Date.now()), 200);
    return () => clearInterval(timer);
  }, [ticking]);
  return now;
}
