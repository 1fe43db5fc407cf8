package peers;

import java.util.Arrays;

/** Counts nanoseconds in buckets that are less than 1.6 % wide. */
final class Histogram {
  private final long[] counts = new long[64 * 64];
  private long total;

  void add(long nanos) {
    counts[bucket(nanos)]++;
    total++;
  }

  void reset() {
    Arrays.fill(counts, 0);
    total = 0;
  }

  long quantile(double quantile) {
    long wanted = (long) Math.ceil(quantile * total);
    long seen = 0;
    for (int bucket = 0; bucket < counts.length; bucket++) {
      seen += counts[bucket];
      if (seen >= wanted && seen > 0) {
        return least(bucket);
      }
    }
    return 0;
  }

  private static int bucket(long value) {
    if (value < 64) {
      return (int) Math.max(value, 0);
    }
    int exponent = 63 - Long.numberOfLeadingZeros(value);
    return ((exponent - 5) << 6) + (int) ((value >>> (exponent - 6)) & 63);
  }

  private static long least(int bucket) {
    if (bucket < 64) {
      return bucket;
    }
    int exponent = (bucket >> 6) + 5;
    return (64L + (bucket & 63)) << (exponent - 6);
  }
}
