package peer;

import org.apache.gearpump.cluster.ClusterConfig;
import org.apache.gearpump.cluster.UserConfig;
import org.apache.gearpump.cluster.client.ClientContext;
import org.apache.gearpump.streaming.javaapi.Graph;
import org.apache.gearpump.streaming.javaapi.Processor;
import org.apache.gearpump.streaming.javaapi.StreamApplication;
import org.apache.gearpump.streaming.partitioner.HashPartitioner;

/** Submits a work: its name and the jar. */
public final class Main {
  private static final String WORK = "work";

  /** One task in each. */
  private static final int EXECUTORS = 2;

  private Main() {}

  static String work(UserConfig config) {
    return config.getString(WORK).get();
  }

  public static void main(String[] args) throws Exception {
    UserConfig config = UserConfig.empty().withString(WORK, args[0]);
    ClientContext context = new ClientContext(ClusterConfig.defaultConfig());
    try {
      Processor<Source> source = new Processor<>(Source.class, 1, "source", UserConfig.empty());
      Processor<Sink> sink = new Processor<>(Sink.class, 1, "sink", UserConfig.empty());
      Graph graph = new Graph();
      graph.addVertex(source);
      graph.addVertex(sink);
      graph.addEdge(source, new HashPartitioner(), sink);
      context.submit(new StreamApplication(args[0], config, graph), args[1], EXECUTORS);
    } finally {
      context.close();
    }
  }
}
