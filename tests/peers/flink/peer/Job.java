package peer;

import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.legacy.RichSinkFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.source.legacy.SourceFunction;
import org.apache.flink.util.Collector;
import peers.Measure;

/**
 * Gear's benchmarks for Flink: pair, latency, keyed or kill. Source and sink are in slot sharing
 * groups of their own and each TaskManager has one slot, so they are in different processes.
 */
public final class Job {
  private Job() {}

  public static void main(String[] args) throws Exception {
    String work = args[0];
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
    env.setParallelism(1);
    env.getConfig().enableObjectReuse();
    if (work.equals("latency") || work.equals("kill")) {
      // Each record is sent at once.
      env.setBufferTimeout(0);
    }
    if (work.equals("kill")) {
      env.enableCheckpointing(1000);
    }
    if (work.equals("keyed")) {
      env.addSource(new Keys(), Types.LONG)
          .slotSharingGroup("source")
          .keyBy(key -> key, Types.LONG)
          .process(new Count())
          .slotSharingGroup("sink")
          .sinkTo(new DiscardingSink<>());
    } else {
      boolean paced = !work.equals("pair");
      env.addSource(
              paced ? new PacedRecords() : new Records(),
              PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)
          .slotSharingGroup("source")
          .addSink(new Take(work))
          .slotSharingGroup("sink");
    }
    env.execute(work);
  }

  /** As fast as the network takes them. */
  static final class Records implements SourceFunction<byte[]> {
    private volatile boolean runs = true;

    @Override
    public void run(SourceContext<byte[]> context) {
      for (long number = 0; runs; number++) {
        context.collect(Measure.record(number, 0));
      }
    }

    @Override
    public void cancel() {
      runs = false;
    }
  }

  /** Records on schedule, from where the last checkpoint was. */
  static final class PacedRecords implements SourceFunction<byte[]>, CheckpointedFunction {
    private volatile boolean runs = true;
    private long number;
    private transient ListState<Long> position;

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
      ListStateDescriptor<Long> descriptor = new ListStateDescriptor<>("position", Types.LONG);
      position = context.getOperatorStateStore().getListState(descriptor);
      for (long stored : position.get()) {
        number = stored;
      }
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
      position.clear();
      position.add(number);
    }

    @Override
    public void run(SourceContext<byte[]> context) {
      Measure.Pace pace = new Measure.Pace(number);
      while (runs) {
        if (!pace.isDue()) {
          Measure.Pace.pause();
          continue;
        }
        synchronized (context.getCheckpointLock()) {
          context.collect(pace.next());
          number++;
        }
      }
    }

    @Override
    public void cancel() {
      runs = false;
    }
  }

  static final class Take extends RichSinkFunction<byte[]> {
    private final String work;
    private transient Measure.Sink sink;

    Take(String work) {
      this.work = work;
    }

    @Override
    public void open(OpenContext context) {
      sink = Measure.Sink.of(work);
    }

    @Override
    public void invoke(byte[] record, Context context) {
      sink.take(record);
    }
  }

  static final class Keys implements SourceFunction<Long> {
    private volatile boolean runs = true;

    @Override
    public void run(SourceContext<Long> context) {
      for (long number = 0; runs; number++) {
        context.collect(Measure.key(number));
      }
    }

    @Override
    public void cancel() {
      runs = false;
    }
  }

  /** Counts by key on the heap; nothing is given on before the end, which never comes. */
  static final class Count extends KeyedProcessFunction<Long, Long, Long> {
    private transient ValueState<Long> count;
    private transient Measure.Throughput throughput;

    @Override
    public void open(OpenContext context) {
      count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
      throughput = new Measure.Throughput("keyed");
    }

    @Override
    public void processElement(Long key, Context context, Collector<Long> out) throws Exception {
      Long before = count.value();
      count.update(before == null ? 1 : before + 1);
      throughput.count();
    }
  }
}
