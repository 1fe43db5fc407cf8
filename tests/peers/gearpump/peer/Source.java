package peer;

import java.time.Instant;
import org.apache.gearpump.DefaultMessage;
import org.apache.gearpump.Message;
import org.apache.gearpump.cluster.UserConfig;
import org.apache.gearpump.streaming.javaapi.Task;
import org.apache.gearpump.streaming.task.TaskContext;
import peers.Measure;

/**
 * Sends one record for each message that it gets, all of which but the first come from itself.
 *
 * <p>Gearpump's own sources send themselves a watermark instead. In 0.8.4 each of those asks the
 * sink for an acknowledgement, which makes a pair across processes fifty times slower.
 */
public class Source extends Task {
  private final DefaultMessage again = new DefaultMessage("again", 0L);
  private final boolean keyed;
  private final boolean paced;
  private Measure.Pace pace;
  private long number;

  public Source(TaskContext context, UserConfig config) {
    super(context, config);
    String work = Main.work(config);
    keyed = work.equals("keyed");
    paced = work.equals("latency") || work.equals("kill");
  }

  @Override
  public void onStart(Instant time) {
    pace = new Measure.Pace(0);
    self().tell(again, self());
  }

  @Override
  public void onNext(Message message) {
    if (!paced) {
      send(keyed ? (Object) Measure.key(number) : Measure.record(number, 0));
      number++;
    } else if (pace.isDue()) {
      send(pace.next());
    } else {
      Measure.Pace.pause();
    }
    self().tell(again, self());
  }

  private void send(Object value) {
    context.output(new DefaultMessage(value, System.currentTimeMillis()));
  }
}
