package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.Locale;
import java.util.concurrent.locks.LockSupport;

/**
 * The work that engines on the JVM are given beside Gear, and how it is measured: what the package
 * `peer-work` is for those in Rust. It has its windows from the environment, and appends its
 * samples to the file that the environment names `PEER_OUT`.
 */
public final class Measure {
  public static final int RECORD_BYTES = 100;
  public static final long KEYS = 1_000_000;
  public static final long RATE = 50_000;

  private static final VarHandle LONG =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

  private Measure() {}

  /** A new record: engines may keep it, so none is used twice. */
  public static byte[] record(long number, long intended) {
    byte[] record = new byte[RECORD_BYTES];
    LONG.set(record, 0, number);
    LONG.set(record, 8, intended);
    return record;
  }

  public static long number(byte[] record) {
    return (long) LONG.get(record, 0);
  }

  public static long intended(byte[] record) {
    return (long) LONG.get(record, 8);
  }

  /** Evenly spread, as in Gear's benchmarks. */
  public static long key(long number) {
    long z = (number + 1) * 0x9e3779b97f4a7c15L;
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    z ^= z >>> 31;
    // The high half of an unsigned product.
    return Math.multiplyHigh(z, KEYS) + (z < 0 ? KEYS : 0);
  }

  /** Appends a line to what the script reads. */
  public static synchronized void say(String line) {
    try {
      Files.writeString(
          Path.of(System.getenv("PEER_OUT")),
          line + "\n",
          StandardOpenOption.CREATE,
          StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static void sample(String work, double value, String unit) {
    say(String.format(Locale.ROOT, "sample %s %.3f %s", work, value, unit));
  }

  private static IllegalStateException failed(long number, long expected) {
    String what = "record " + number + " came in place of " + expected;
    say("failed " + what);
    return new IllegalStateException(what);
  }

  /** The schedule of a source: record n is due n / RATE seconds after the beginning. */
  public static final class Pace {
    private final long began = System.nanoTime();
    private final long first;
    private long sent;

    public Pace(long first) {
      this.first = first;
      this.sent = first;
    }

    /** When the next record is due. */
    public long intended() {
      return began + (sent - first) * 1_000_000_000 / RATE;
    }

    public boolean isDue() {
      return intended() <= System.nanoTime();
    }

    /** The next record, which is due. */
    public byte[] next() {
      byte[] record = record(sent, intended());
      sent++;
      return record;
    }

    public static void pause() {
      LockSupport.parkNanos(20_000);
    }
  }

  /** What a sink does with each record. */
  public interface Sink {
    void take(byte[] record);

    static Sink of(String work) {
      switch (work) {
        case "pair":
          return new Throughput(work);
        case "latency":
          return new Latency();
        case "kill":
          return new First();
        default:
          throw new IllegalArgumentException(work);
      }
    }
  }

  /** The windows that both measures have in common. */
  private abstract static class Windows {
    private final long warm = seconds("WARM", 30);
    private final long window = seconds("WINDOW", 5);
    private final long count = Long.parseLong(System.getenv().getOrDefault("WINDOWS", "5"));
    private long began;
    private boolean isWarm;
    private long measured;

    private static long seconds(String name, long otherwise) {
      String text = System.getenv().getOrDefault(name, Long.toString(otherwise));
      return Long.parseLong(text) * 1_000_000_000;
    }

    final void look(long now) {
      if (began == 0) {
        began = now;
        begin();
      }
      if (now - began < (isWarm ? window : warm) || measured == count) {
        return;
      }
      if (isWarm) {
        measure(now - began);
        if (++measured == count) {
          say("end");
        }
      }
      isWarm = true;
      began = now;
      begin();
    }

    abstract void begin();

    abstract void measure(long nanos);
  }

  /** Records a second. */
  public static final class Throughput extends Windows implements Sink {
    private static final long LOOK_EVERY = 1024;
    private final String work;
    private long records;
    private long before;

    public Throughput(String work) {
      this.work = work;
    }

    @Override
    public void take(byte[] record) {
      if (number(record) != records) {
        throw failed(number(record), records);
      }
      count();
    }

    public void count() {
      if (records % LOOK_EVERY == 0) {
        look(System.nanoTime());
      }
      records++;
    }

    @Override
    void begin() {
      before = records;
    }

    @Override
    void measure(long nanos) {
      sample(work, (records - before) * 1e3 / nanos, "M_records/s");
    }
  }

  /** How late records are after the time at which they should have been sent. */
  public static final class Latency extends Windows implements Sink {
    private final Histogram seen = new Histogram();
    private long records;

    @Override
    public void take(byte[] record) {
      if (number(record) != records) {
        throw failed(number(record), records);
      }
      records++;
      long now = System.nanoTime();
      seen.add(now - intended(record));
      look(now);
    }

    @Override
    void begin() {
      seen.reset();
    }

    @Override
    void measure(long nanos) {
      sample("latency-p50", seen.quantile(0.5) / 1e3, "us");
      sample("latency-p99", seen.quantile(0.99) / 1e3, "us");
      sample("latency-p99.9", seen.quantile(0.999) / 1e3, "us");
    }
  }

  /** Says when the first record came to a process, for the script that kills it. */
  public static final class First implements Sink {
    private boolean came;

    @Override
    public void take(byte[] record) {
      if (!came) {
        came = true;
        Instant now = Instant.now();
        long nanos = now.getEpochSecond() * 1_000_000_000 + now.getNano();
        say("first " + ProcessHandle.current().pid() + " " + nanos);
      }
    }
  }
}
