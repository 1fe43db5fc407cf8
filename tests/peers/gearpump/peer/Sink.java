package peer;

import java.util.HashMap;
import java.util.Map;
import org.apache.gearpump.Message;
import org.apache.gearpump.cluster.UserConfig;
import org.apache.gearpump.streaming.javaapi.Task;
import org.apache.gearpump.streaming.task.TaskContext;
import peers.Measure;

/** Measures what comes, and counts keys if that is the work. */
public class Sink extends Task {
  private final boolean keyed;
  private final Measure.Sink sink;
  private final Measure.Throughput throughput = new Measure.Throughput("keyed");
  private final Map<Long, Long> counts = new HashMap<>();

  public Sink(TaskContext context, UserConfig config) {
    super(context, config);
    String work = Main.work(config);
    keyed = work.equals("keyed");
    sink = keyed ? null : Measure.Sink.of(work);
  }

  @Override
  public void onNext(Message message) {
    if (keyed) {
      counts.merge((Long) message.value(), 1L, Long::sum);
      throughput.count();
    } else {
      sink.take((byte[]) message.value());
    }
  }
}
