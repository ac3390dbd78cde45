import { useEffect, useRef, useState } from "preact/hooks";
import { followSerial } from "./api.ts";

/** What is kept of a log in the page, in characters. */
const KEPT = 200_000;

export function SerialLog(props: { id: string }) {
  const [text, setText] = useState("");
  const [failure, setFailure] = useState("");
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    const controller = new AbortController();
    followSerial(
      props.id,
      controller.signal,
      (chunk) => setText((before) => (before + chunk).slice(-KEPT)),
    ).catch((error: unknown) => {
      if (!controller.signal.aborted) {
        setFailure(error instanceof Error ? error.message : String(error));
      }
    });
    return () => controller.abort();
  }, [props.id]);
  useEffect(() => {
    const pre = box.current;
    if (pre !== null && atEnd.current) pre.scrollTop = pre.scrollHeight;
  }, [text]);
  return (
    <>
      {failure !== "" && <p class="notice failure" role="alert">{failure}</p>}
      <pre
        ref={box}
        class="serial"
        role="log"
        aria-label="Serial log"
        aria-live="off"
        tabIndex={0}
        onScroll={(event) => {
          const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
          atEnd.current = scrollTop + clientHeight >= scrollHeight - 8;
        }}
      >
        {text || "Nothing yet."}
      </pre>
    </>
  );
}
